"""`gateway devices`: add and block devices, renew their passwords."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.onboarding import provisioned
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json
from gateway.cli.provision import apply_steps, on_servers, read, report
from gateway.cli.rendering import console
from gateway.config import load
from gateway.errors import ProvisionError
from gateway.provision import cohorts, rendering, run, startup_files
from gateway.provision.plan import Plan, Server
from gateway.provision.run import Applied

app = typer.Typer(no_args_is_help=True, help="Devices: add, block, renew a password.")


@app.command("add")
def add_device(
    startup: str,
    devices: Annotated[list[str], typer.Argument(metavar="DEVICE...")],
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Add devices to a startup, each with an MQTT account; their passwords are shown once."""
    cohorts.find(load(config), startup)
    for device in devices:
        startup_files.add_device(config / "startups" / f"{startup}.yaml", device)
    provisioned(config, {}, None, json=json)


@app.command("block")
def block_device(startup: str, device: str, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Hold one device back: its connection is closed, its account rejected, its messages too. The others go on."""
    cohorts.find(load(config), startup)
    startup_files.block_device(config / "startups" / f"{startup}.yaml", device)
    _carried_to_the_broker(config, json=json)


@app.command("unblock")
def unblock_device(startup: str, device: str, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Let a blocked device in again, with its old password."""
    cohorts.find(load(config), startup)
    startup_files.unblock_device(config / "startups" / f"{startup}.yaml", device)
    _carried_to_the_broker(config, json=json)


@app.command("password")
def new_password(startup: str, device: str, config: ConfigDir = DEFAULT_DIR) -> None:
    """Give a device's MQTT account a new password; the old one is rejected at once."""
    loaded, settings = read(config)
    if device not in cohorts.find(loaded, startup).devices:
        raise ProvisionError(
            f"{startup} has no device {device!r}: add it with `gateway devices add {startup} {device}`"
        )

    made = on_servers(loaded, settings, lambda servers: run.new_password(servers, startup, device))
    console().print(rendering.credentials([made]))


def _carried_to_the_broker(directory: Path, *, json: bool) -> None:
    """Plan and apply at the broker alone: a block must not wait for another server."""
    loaded, settings = read(directory)
    only_mqtt = settings.model_copy(update={"influxdb": None, "stores": {}, "grafana": None})

    async def work(servers: list[Server]) -> tuple[Plan, Applied]:
        plan = await run.plan(loaded, servers)
        return plan, await apply_steps(plan, servers, quiet=json)

    plan, applied = on_servers(loaded, only_mqtt, work)
    report(plan, applied, json=json)
    if settings.mosquitto is None and not json:
        console(to_stderr=True).print(
            "provision.yaml names no Mosquitto: the gateway rejects the device's messages, and the broker still takes "
            "them. Close the device's account there too"
        )
    raise typer.Exit(1 if applied.problem or plan.conflicts else 0)
