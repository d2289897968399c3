"""`gateway run|demo|status|tail`: the running gateway."""

from __future__ import annotations

import asyncio
import json as jsonlib
import signal
from typing import Annotated

import typer

import gateway
from gateway import books, ledger, logs, render
from gateway.books import MAX_WORKERS, Books
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
from gateway.client import Client
from gateway.config import Config, load, load_settings, secrets
from gateway.config.models import Log
from gateway.interpreter import set_up_interpreter


def run(
    config: ConfigDir = DEFAULT_DIR,
    workers: Annotated[
        int,
        typer.Option(min=1, max=MAX_WORKERS - 1, help="Processes that share the messages.", envvar="GATEWAY_WORKERS"),
    ] = 1,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, then drain and stop."""
    from gateway.app import Gateway
    from gateway.feeds.auth import Tokens
    from gateway.workers.front import Front

    loaded = load(config)
    logs.configure(loaded.settings.log)
    log = logs.get_logger(__name__)
    for warning in loaded.warnings:
        log.warning(warning)
    tokens = Tokens.of(loaded)
    for problem in tokens.missing(loaded):
        log.warning("no token", problem=problem)

    async def serve() -> None:
        several = workers > 1 or books.leaving(loaded.state_dir, 1)
        one = Front(loaded, tokens, config, workers) if several else Gateway(loaded, tokens, config)
        set_up_interpreter()
        on_signals(one.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
        await one.run(lambda _web: asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, one.reload_now))

    with one_error():
        asyncio.run(serve())


def demo(
    config: ConfigDir = DEFAULT_DIR,
    lasts: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop by itself, such as 20s.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Simulated devices of each startup.")] = 4,
    rate: Annotated[float, typer.Option(min=0.01, help="Messages a second of each device.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON, as the last line.")] = False,
) -> None:
    """Run everything on embedded defaults: broker, three startups' simulated devices, gateway, store, web page."""
    from gateway import demo as demos

    loaded = load(config)
    logs.configure(Log(level="warning"))
    seconds = None if lasts is None else duration(lasts)
    out = render.console(to_stderr=json)

    async def play() -> demos.Report:
        stop = asyncio.Event()
        on_signals(stop.set)
        with render.growing_ledger(out, seconds) as show:
            return await demos.run(
                loaded, seconds, stop, lambda doors: out.print(render.doors(doors)), show, devices, rate
            )

    with one_error():
        report = asyncio.run(play())
    out.print(render.ledger_table(report.balance, "the ledger when everything was stored"))
    if json:
        print(demos.as_json_line(report))
    raise typer.Exit(0 if report.is_good else 1)


def status(config: ConfigDir = DEFAULT_DIR, url: Url = None, json: Json = False) -> None:
    """Whether the gateway runs and works, the ledger, and how many dead letters there are."""
    loaded = Config(settings=load_settings(config), startups=())
    client = Client(loaded, url=url)
    ready = client.ready()
    if ready is None:
        load(config)  # one that is wrong may be why
    kept_books = Books(loaded.state_dir)
    balance, kept = kept_books.balance(), kept_books.totals()
    if json:
        print_json(
            {
                "running": ready is not None,
                "health": ready,
                "total": ledger.total(balance).as_json(),
                "startups": {slug: counts.as_json() for slug, counts in balance.items()},
                "dead_letters": {slug: one.letters for slug, one in kept.items()},
            }
        )
    else:
        render.console().print(
            render.health(ready, client.url), render.ledger_table(balance), render.totals(kept), sep="\n"
        )
    raise typer.Exit(0 if ready is not None and ready["ready"] else 1)


def tail(
    startup: str,
    config: ConfigDir = DEFAULT_DIR,
    token: Token = None,
    url: Url = None,
    measurement: Annotated[str | None, typer.Option(help="Only this measurement.")] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Follow a startup's readings and rejections as they come."""
    loaded = load(config)
    client = Client(loaded, token or secrets.operator_token(loaded.settings), url)
    out = render.console()
    with quiet_interrupt():
        for kind, data in client.live(startup, measurement, device):
            if json:
                print(jsonlib.dumps({"event": kind, **data}, ensure_ascii=False), flush=True)
            else:
                out.print(render.event(kind, data), soft_wrap=True)


def version() -> None:
    """Print the version."""
    print(gateway.__version__)
