"""`gateway hosts`: which host serves which startups, and how to empty one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, print_json
from gateway.cli.rendering import console
from gateway.config import load, load_settings
from gateway.config.hosts import least_loaded, load_of, loads, without_host
from gateway.provision import startup_files

app = typer.Typer(no_args_is_help=True, help="Hosts: which one serves which startups.")


@app.command("list")
def list_hosts(config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """List the hosts, each with its startups and the sum of their quotas."""
    loaded = load(config)
    found: list[dict[str, Any]] = [
        {
            "host": name,
            "url": loaded.settings.hosts[name].url,
            "startups": [startup.slug for startup in startups],
            "messages_a_second": sum(map(load_of, startups)),
        }
        for name, startups in loads(loaded).items()
    ]
    if json:
        print_json(found)
        return
    if not found:
        console().print("no `hosts` in gateway.yaml: one host serves all startups")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("host", "url"):
        table.add_column(name)
    table.add_column("messages/s", justify="right")
    table.add_column("startups")
    for one in found:
        table.add_row(one["host"], one["url"], f"{one['messages_a_second']:,.0f}", ", ".join(one["startups"]) or "none")
    console().print(table)


@app.command("drain")
def drain_host(host: str, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Move all startups of a host to the others, by editing their files: each to the one with the smallest quotas.

    Running gateways follow when they have the files. The host stores what is in its journal; it may be switched off
    when `gateway status` there shows that nothing waits.
    """
    moved = without_host(load(config), host)
    for slug, hosts in moved.items():
        startup_files.set_hosts(config / "startups" / f"{slug}.yaml", hosts)
    if json:
        print_json({slug: list(hosts) for slug, hosts in moved.items()})
        return
    for slug, hosts in moved.items():
        console().print(f"{slug} → {', '.join(hosts)}")
    console().print(_what_next(host, list(moved)))


def _what_next(host: str, moved: Sequence[str]) -> str:
    if not moved:
        return f"{host} serves no startup: it may be switched off when nothing waits there (gateway status)"
    return f"{len(moved)} moved. Bring the files to all hosts; switch {host} off when nothing waits there"


def free_host(directory: Path) -> str | None:
    """Return the host for a new startup; None where there is only one, or none has a startup yet."""
    if not load_settings(directory).hosts or not any((directory / "startups").glob("*.yaml")):
        return None
    return least_loaded(load(directory))
