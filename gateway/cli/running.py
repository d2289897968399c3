"""`gateway run|demo|status|tail`: run a gateway, and look at a running one."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

import gateway
from gateway import logs
from gateway.cli import demo_rendering, rendering
from gateway.cli.encoding import as_json
from gateway.cli.http_client import Client
from gateway.cli.options import (
    DEFAULT_DIR,
    ConfigDir,
    Json,
    Token,
    Url,
    duration,
    on_signals,
    one_error,
    print_json,
    quiet_interrupt,
)
from gateway.config import Config, Loader, credentials, load, load_settings
from gateway.config.hosts import on_host
from gateway.model import Counts
from gateway.runtime.descriptors import raise_descriptor_limit
from gateway.runtime.gc_tuning import tune_interpreter
from gateway.state.reader import StateReader
from gateway.state.workers import MAX_WORKERS, retiring


def run(
    config: ConfigDir = DEFAULT_DIR,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_WORKERS - 1, help="Number of processes that share the messages.", envvar="GATEWAY_WORKERS"
        ),
    ] = 1,
    host: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of this host under hosts in gateway.yaml.", envvar="GATEWAY_HOST"),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, then drain the journal and stop."""
    from gateway.api.auth import Tokens
    from gateway.runtime.gateway import Gateway
    from gateway.runtime.supervisor import Supervisor

    loader = Loader(config)
    loaded = on_host(loader.load(), host)
    if workers > 1 and loaded.settings.mqtt.sessions == "one":
        raise typer.BadParameter(
            "expected 1, since `mqtt.sessions: one` in gateway.yaml has a single session, which one process holds",
            param_hint="--workers",
        )
    raise_descriptor_limit()
    logs.configure(loaded.settings.log.level, loaded.settings.log.format)
    log = logs.get_logger(__name__)
    for warning in loaded.warnings:
        log.warning(warning)
    tokens = Tokens.of(loaded)
    for problem in tokens.missing(loaded):
        log.warning("no token", problem=problem)

    async def serve() -> None:
        several = workers > 1 or retiring(loaded.state_dir, 1)
        one = Supervisor(loaded, tokens, loader, workers) if several else Gateway(loaded, tokens, loader)
        tune_interpreter()
        on_signals(one.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
        await one.run(lambda _web: asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, one.reload_now))

    with one_error():
        asyncio.run(serve())


def demo(
    config: ConfigDir = DEFAULT_DIR,
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Stop after this time, e.g. 20s.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of simulated devices of each startup.")] = 4,
    rate: Annotated[float, typer.Option(min=0.01, help="Messages per second of each device.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON in the last line.")] = False,
) -> None:
    """Run everything embedded: broker, simulated devices of three startups, gateway, store, web page."""
    from gateway.cli import demo as demos

    loaded = load(config)
    logs.configure("warning")
    seconds = None if lasts is None else duration(lasts)
    out = rendering.console(to_stderr=json)
    fleet = demos.Fleet(devices, rate)

    async def play() -> demos.Report:
        stop = asyncio.Event()
        on_signals(stop.set)
        with demo_rendering.growing_ledger(out, seconds) as show:
            return await demos.run(
                loaded, seconds, stop, lambda access: out.print(demo_rendering.access(access)), show, fleet
            )

    with one_error():
        report = asyncio.run(play())
    out.print(rendering.ledger_table(report.balance, "the ledger, once everything was stored"))
    if json:
        print(demos.as_json_line(report))
    raise typer.Exit(0 if report.is_good else 1)


def status(config: ConfigDir = DEFAULT_DIR, token: Token = None, url: Url = None, json: Json = False) -> None:
    """Show whether the gateway runs and works, the ledger, and how many dead letters are kept."""
    loaded = Config(settings=load_settings(config), startups=())
    client = Client(loaded, token or credentials.operator_token(loaded.settings), url)
    ready = client.ready()
    if ready is None:
        load(config)  # an invalid configuration may be why
    state = StateReader(loaded.state_dir)
    balance, kept = state.balance(), state.totals()
    if json:
        print_json(
            {
                "running": ready is not None,
                "health": ready,
                "total": Counts.total(balance).as_json(),
                "startups": {slug: counts.as_json() for slug, counts in balance.items()},
                "dead_letters": {slug: one.kept for slug, one in kept.items()},
            }
        )
    else:
        rendering.console().print(
            rendering.health(ready, client.url), rendering.ledger_table(balance), rendering.totals(kept), sep="\n"
        )
    raise typer.Exit(0 if ready is not None and ready["ready"] else 1)


def tail(
    startup: str,
    config: ConfigDir = DEFAULT_DIR,
    token: Token = None,
    url: Url = None,
    measurement: Annotated[str | None, typer.Option(help="Only this measurement.")] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Follow a startup's readings and rejections as they arrive."""
    loaded = load(config)
    client = Client(loaded, token or credentials.operator_token(loaded.settings), url)
    out = rendering.console()
    with quiet_interrupt():
        for kind, data in client.live(startup, measurement, device):
            if json:
                print(as_json({"event": kind, **data}), flush=True)
            else:
                out.print(rendering.event(kind, data), soft_wrap=True)


def version() -> None:
    """Print the version."""
    print(gateway.__version__)
