"""`gateway provision plan|apply`: bring the servers into line with provision.yaml and the startups' files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, on_signals, one_error, print_json
from gateway.cli.rendering import console, granted
from gateway.config import Config, load
from gateway.mqtt.grants import Comparison
from gateway.provision import rendering, run
from gateway.provision.plan import Plan, Server
from gateway.provision.run import Applied
from gateway.provision.settings import ProvisionSettings, check_names, load_provision

app = typer.Typer(no_args_is_help=True, help="Accounts, buckets and dashboards on Mosquitto, InfluxDB and Grafana.")
Prune = Annotated[bool, typer.Option("--prune", help="Also remove what provisioning made and is no longer configured.")]
T = TypeVar("T")


@app.command("plan")
def plan_command(config: ConfigDir = DEFAULT_DIR, prune: Prune = False, json: Json = False) -> None:
    """Show the steps that are needed, like a diff. Changes nothing."""
    loaded, settings = read(config)
    plan = on_servers(loaded, settings, lambda servers: run.plan(loaded, servers, prune=prune))
    broker = asyncio.run(run.granted(loaded, settings))
    if json:
        print_json(rendering.plan_json(plan) | _broker_json(broker))
    else:
        console().print(rendering.plan(plan))
        _print_missing(broker)
    raise typer.Exit(1 if plan.conflicts else 0)


@app.command("apply")
def apply_command(config: ConfigDir = DEFAULT_DIR, prune: Prune = False, json: Json = False) -> None:
    """Do what `plan` shows. Safe to repeat at any time; new credentials are shown once."""
    loaded, settings = read(config)

    async def work(servers: list[Server]) -> tuple[Plan, Applied]:
        plan = await run.plan(loaded, servers, prune=prune)
        return plan, await apply_steps(plan, servers, quiet=json)

    plan, applied = on_servers(loaded, settings, work)
    broker = asyncio.run(run.granted(loaded, settings))
    report(plan, applied, json=json, broker=broker)
    raise typer.Exit(1 if applied.problem or plan.conflicts else 0)


def read(directory: Path) -> tuple[Config, ProvisionSettings]:
    """Return the startups whose programme has not ended, and the servers to provision."""
    config, settings = load(directory).active(time.time_ns()), load_provision(directory)
    check_names(config, settings)
    return config, settings


def on_servers(config: Config, settings: ProvisionSettings, work: Callable[[list[Server]], Awaitable[T]]) -> T:
    """Run `work` with connections to the servers."""

    async def connected() -> T:
        async with run.servers(config, settings) as servers:
            return await work(servers)

    with one_error():
        return asyncio.run(connected())


async def apply_steps(plan: Plan, servers: list[Server], *, quiet: bool) -> Applied:
    """Apply, with a progress bar on a terminal.

    A signal ends it after the current step; what was made is still reported.
    """
    if task := asyncio.current_task():
        on_signals(task.cancel)
    with rendering.progress(len(plan.steps), quiet=quiet) as done:
        return await run.apply(plan, servers, done)


def report(plan: Plan, applied: Applied, *, json: bool, broker: Comparison | None = None) -> None:
    """Print what was done, the credentials, and what the broker does not grant."""
    if json:
        print_json(rendering.applied_json(plan, applied) | _broker_json(broker))
    else:
        console().print(rendering.applied(plan, applied))
        _print_missing(broker)


def _broker_json(broker: Comparison | None) -> dict[str, Any]:
    return {"broker": broker.as_json()} if broker else {}


def _print_missing(broker: Comparison | None) -> None:
    """Print what the gateway needs and the broker does not grant. Advice is for `gateway check --broker`."""
    if broker and not broker.is_enough:
        console().print(granted(broker))
