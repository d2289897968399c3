"""`gateway startups`: add, change, export and remove startups."""

from __future__ import annotations

import secrets
import time
from typing import Annotated

import typer

from gateway.api.auth import token_hash
from gateway.cli.offboarding import DeleteData, ExportTo, export_before, export_data, forget, print_export, revoke
from gateway.cli.onboarding import Handouts, add_startup_file, last_day, provisioned
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, print_json
from gateway.cli.provision import report
from gateway.cli.rendering import console
from gateway.config import Config, load
from gateway.provision import cohorts, rendering, startup_files
from gateway.provision.plan import Credential
from gateway.provision.startup_files import NewStartup

app = typer.Typer(no_args_is_help=True, help="Startups: list, add, remove, export.")

Until = Annotated[str | None, typer.Option(metavar="DATE", help="Last day of access, such as 2026-12-18.")]
Team = Annotated[list[str] | None, typer.Option(metavar="EMAIL", help="Who may use Grafana; repeat for several.")]


@app.command("list")
def list_startups(config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """List the startups."""
    startups = load(config).startups
    if json:
        print_json(
            [
                {
                    "slug": s.slug,
                    "name": s.name,
                    "cohort": s.cohort,
                    "until": s.until and str(s.until),
                    "devices": list(s.devices),
                    "measurements": list(s.topics),
                }
                for s in startups
            ]
        )
    else:
        console().print(rendering.startups(startups))


@app.command("add")
def add_startup(
    slug: str,
    name: Annotated[str, typer.Option(help="The startup's name, for people.")],
    config: ConfigDir = DEFAULT_DIR,
    cohort: Annotated[str, typer.Option(help="The cohort that it belongs to.")] = "",
    until: Until = None,
    store: Annotated[
        str | None, typer.Option(metavar="NAME", help="Store for its readings: a name under stores in gateway.yaml.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Host that serves it; default: the one with the smallest quotas.")
    ] = None,
    team: Team = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A device, with an MQTT account; repeat for several.")
    ] = None,
    handouts: Handouts = None,
    json: Json = False,
) -> None:
    """Add a startup: write its file, provision the servers, and print what the startup needs."""
    new = NewStartup(slug, name, cohort, last_day(until), store, host, team or (), device or ())
    provisioned(config, {slug: add_startup_file(config, new)}, handouts, json=json)


@app.command("token")
def new_token(slug: str, config: ConfigDir = DEFAULT_DIR) -> None:
    """Give a startup a new API token; the old one is rejected as soon as the gateway has reloaded."""
    cohorts.find(load(config), slug)
    token = secrets.token_urlsafe(24)
    path = config / "startups" / f"{slug}.yaml"
    startup_files.edit(path, lambda document: document.__setitem__("token_sha256", token_hash(token)))
    console().print(rendering.credentials([Credential(slug, "HTTP API", slug, token)]))


@app.command("export")
def export_startup(slug: str, to: ExportTo, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Write all data of a startup as CSV and line protocol."""
    loaded = load(config)
    done = export_data(loaded, cohorts.find(loaded, slug), to)
    if json:
        print_json({"directory": str(done.directory), "files": [f.name for f in done.files], "readings": done.readings})
    else:
        print_export(done)


@app.command("remove")
def remove_startup(
    slug: str, to: ExportTo, config: ConfigDir = DEFAULT_DIR, delete_data: DeleteData = False, json: Json = False
) -> None:
    """Export a startup's data, revoke all its access, and remove its file."""
    loaded = load(config)
    startup = cohorts.find(loaded, slug)
    export_before(loaded, startup, to, delete_data=delete_data)
    others = tuple(other for other in loaded.startups if other.slug != slug)
    without = Config(settings=loaded.settings, startups=others).active(time.time_ns())
    plan, applied = revoke(config, loaded, without, [slug], delete_data=delete_data, quiet=json)
    if not applied.problem:
        startup_files.remove(config, slug)
        if delete_data:
            forget(loaded, slug)
    report(plan, applied, json=json)
    raise typer.Exit(1 if applied.problem else 0)
