"""Command line of the simulated fleet: parse, run, print."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from devices import report
from devices.broker import Broker, BrokerUrlError, parse
from devices.client import DeviceClient
from devices.fleet import FACTORIES, Share, Unit, build
from devices.options import Protocol, duration, share
from devices.run import connect, on_signal, run, stop_after
from devices.settings import Settings

NEVER_CONNECTED = 1  # the exit code if no device ever reached the broker

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run needs. `lasts` is in seconds; None runs without end."""

    units: Sequence[Unit]
    broker: Broker
    settings: Settings
    seed: str
    lasts: float | None
    quiet: bool


@app.command()
def main(
    broker: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="mqtt://user:password@host:port, or mqtts:// for TLS; only the host is required.",
        ),
    ] = "mqtt://localhost:1883",
    password: Annotated[
        str | None,
        typer.Option(
            envvar="DEVICES_PASSWORD",
            metavar="TEXT",
            help="Password of the broker's user; safer in the environment, where `ps` does not show it.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Certificates to trust with mqtts://."),
    ] = None,
    protocol: Annotated[Protocol, typer.Option(help="MQTT version.")] = Protocol.V311,
    startup: Annotated[
        list[str] | None,
        typer.Option(metavar="SLUG", help=f"{', '.join(FACTORIES)}; repeat for several.", show_default="all"),
    ] = None,
    devices: Annotated[int, typer.Option(metavar="N", help="Number of devices of each startup.", min=1, max=9999)] = 4,
    rate: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Messages per second from each device. Soil probes measure as often, and send five at a time.",
            min=0.001,
            max=1000,
        ),
    ] = 1.0,
    misbehaving: Annotated[
        Share,
        typer.Option(
            parser=share,
            metavar="SHARE",
            help="Devices of each startup that send every third message wrong: a fraction (0.25, 25%; at "
            "least one device), or a count (2). 0 for none.",
        ),
    ] = "25%",  # type: ignore[assignment]  # typer parses the default as well
    outage_every: Annotated[
        float,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="Mean time between losses of a device's connection. 0 for never.",
        ),
    ] = "3m",  # type: ignore[assignment]  # typer parses the default as well
    seed: Annotated[
        str, typer.Option(metavar="TEXT", help="The same seed gives the same devices, signals, faults and outages.")
    ] = "testbed",
    lasts: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=duration,
            metavar="DURATION",
            help="How long to run: 20s, 5m, 2h.",
            show_default="until Ctrl-C or SIGTERM",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only problems, and --json.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the totals as JSON in the last line.")] = False,
) -> None:
    """Run a fleet of simulated MQTT sensors against a broker.

    Three startups: acme (indoor air), voltwise (charging points), greenbed (vertical farming). Their devices
    follow daily cycles, drift, run down their batteries, lose their connection and come back with what they
    kept. Some send wrong messages on purpose: broken JSON, impossible values, a wrong clock.

    Exit code: 0 after a run, 1 if no device ever reached the broker, 2 for invalid options.
    """
    units = build(_known(startup), devices, misbehaving, seed)
    try:
        place = parse(broker, password, ca_file, protocol.value)
    except BrokerUrlError as error:
        raise typer.BadParameter(str(error), param_hint="--broker") from None
    settings = Settings(period=1 / rate, outage_every=outage_every)
    # aiomqtt watches file descriptors, which the default loop on Windows cannot do.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        clients = runner.run(_run(Plan(units, place, settings, seed, lasts, quiet)))
    if json:
        print(report.as_json(clients))
    elif not quiet:
        print(f"End: {report.overall(clients)}.")
    if not any(client.counters.connections for client in clients):
        raise typer.Exit(NEVER_CONNECTED)


def _known(startups: list[str] | None) -> list[str]:
    wanted = list(dict.fromkeys(startups or FACTORIES))
    for startup in wanted:
        if startup not in FACTORIES:
            raise typer.BadParameter(f"{startup!r} is not one of {', '.join(FACTORIES)}", param_hint="--startup")
    return wanted


async def _run(plan: Plan) -> list[DeviceClient]:
    """Run the fleet, and return its clients with their counters."""
    stop = asyncio.Event()
    clients = connect(plan.units, plan.broker, plan.settings, plan.seed, report.Notices().show)
    async with asyncio.TaskGroup() as group:
        watching = [
            group.create_task(stop_after(plan.lasts, stop), name="stop after"),
            group.create_task(_show(plan, clients), name="progress"),
        ]
        with on_signal(stop.set):
            await run(clients, plan.settings.period, stop)
        for task in watching:
            task.cancel()
    return clients


async def _show(plan: Plan, clients: list[DeviceClient]) -> None:
    if not plan.quiet:
        await report.progress(clients, str(plan.broker))


if __name__ == "__main__":
    app(prog_name="python -m devices")
