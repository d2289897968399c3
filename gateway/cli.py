"""The commands: parse, call, print. What they do is elsewhere."""

from __future__ import annotations

import asyncio
import json as jsonlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import gateway
from gateway import dead_letters, ledger, logs, render
from gateway.client import Client
from gateway.config import Config, Settings, StartupFile, load, secrets
from gateway.config.models import Log
from gateway.config.types import parse_duration
from gateway.database import FILE_NAME, read_only
from gateway.errors import ConfigError
from gateway.model import UNROUTED, Message
from gateway.pipeline import Pipeline, unused

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Telemetry gateway for shared test beds: MQTT in, validated, stored, one feed per startup.",
)
letters_app = typer.Typer(no_args_is_help=True, help="Rejected messages, kept with their raw bytes.")
app.add_typer(letters_app, name="dead-letters")

ConfigDir = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="DIR",
        help="Directory of gateway.yaml and startups/.",
        envvar="GATEWAY_CONFIG",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Token = Annotated[
    str | None,
    typer.Option(help="API token; default: the operator's, as configured.", envvar="GATEWAY_TOKEN"),
]
Url = Annotated[str | None, typer.Option(help="Address of the gateway; default: http.listen of the configuration.")]
DEFAULT_DIR = Path("config")


@app.command()
def run(config: ConfigDir = DEFAULT_DIR) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, then drain and stop."""
    from gateway.app import Gateway
    from gateway.feeds.auth import Tokens

    loaded = load(config)
    logs.configure(loaded.settings.log)
    log = logs.get_logger(__name__)
    for warning in loaded.warnings:
        log.warning(warning)
    tokens = Tokens.of(loaded)
    for problem in tokens.missing(loaded):
        log.warning("no token", problem=problem)

    async def serve() -> None:
        one = Gateway(loaded, tokens)
        _on_signals(one.stop)
        await one.run()

    with _one_error():
        asyncio.run(serve())


@app.command()
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
    seconds = None if lasts is None else _duration(lasts)
    out = render.console(to_stderr=json)

    async def play() -> demos.Report:
        stop = asyncio.Event()
        _on_signals(stop.set)
        with render.growing_ledger(out, seconds) as show:
            return await demos.run(
                loaded, seconds, stop, lambda doors: out.print(render.doors(doors)), show, devices, rate
            )

    with _one_error():
        report = asyncio.run(play())
    out.print(render.ledger_table(report.balance, "the ledger when everything was stored"))
    if json:
        print(demos.as_json_line(report))
    raise typer.Exit(0 if report.is_good else 1)


@app.command()
def check(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Directory of gateway.yaml and startups/.")
    ] = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Check a configuration whole: every error at once, each with file, line, what was expected and what came."""
    try:
        loaded = load(directory)
    except ConfigError as error:
        if not json:
            raise
        found = [
            {"file": p.file, "line": p.line, "where": p.where, "expected": p.expected, "got": p.got}
            for p in error.problems
        ]
        _print_json({"ok": False, "problems": found})
        raise typer.Exit(1) from None
    rules = sum(len(startup.topics) for startup in loaded.startups)
    if json:
        _print_json({"ok": True, "startups": len(loaded.startups), "rules": rules, "warnings": list(loaded.warnings)})
        return
    for warning in loaded.warnings:
        render.console().print(render.warning(warning))
    render.console().print(f"{render.OK} {len(loaded.startups)} startups, {rules} topic rules: all good")


class SchemaOf(StrEnum):
    """The files that have a schema."""

    STARTUP = "startup"
    GATEWAY = "gateway"


@app.command()
def schema(of: Annotated[SchemaOf, typer.Argument(help="Which file.")] = SchemaOf.STARTUP) -> None:
    """Print the JSON Schema of startups/*.yaml or gateway.yaml, for editors."""
    model = StartupFile if of is SchemaOf.STARTUP else Settings
    _print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()})


@app.command("try")
def try_out(
    topic: str,
    payload: Annotated[str, typer.Argument(help="The payload; @FILE reads a file, - standard input.")],
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Dry run: what would become of a message? Prints the reading and its line protocol, or every reason against it."""
    loaded = load(config)
    pipeline = Pipeline(loaded, unused(loaded.startups))
    result = pipeline.refine(Message(topic, _payload(payload)), time.time_ns(), metered=False)
    if json:
        _print_json(render.refined_json(result))
    else:
        render.console().print(render.refined(result), soft_wrap=True)
    raise typer.Exit(1 if result.rejection else 0)


@app.command()
def status(config: ConfigDir = DEFAULT_DIR, url: Url = None, json: Json = False) -> None:
    """Whether the gateway runs and works, the ledger, and how many dead letters there are."""
    loaded = load(config)
    client = Client(loaded, url=url)
    ready = client.ready()
    balance, kept = read_only(
        _database(loaded), lambda connection: (ledger.balance(connection), dead_letters.totals(connection))
    )
    if json:
        _print_json(
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


@app.command()
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
    with _quiet_interrupt():
        for kind, data in client.live(startup, measurement, device):
            if json:
                print(jsonlib.dumps({"event": kind, **data}, ensure_ascii=False), flush=True)
            else:
                out.print(render.event(kind, data), soft_wrap=True)


@letters_app.command("list")
def list_letters(
    startup: Annotated[str | None, typer.Argument(help="Only of this startup.")] = None,
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    unrouted: Annotated[bool, typer.Option("--unrouted", help="Only messages that belong to no startup.")] = False,
) -> None:
    """List dead letters, the newest first."""
    of = UNROUTED if unrouted else startup
    found = read_only(_database(load(config)), lambda connection: dead_letters.page(connection, of, limit=limit))
    if json:
        _print_json([letter.as_json() for letter in found])
    else:
        render.console().print(render.letters(found))


@letters_app.command("show")
def show_letter(
    ident: Annotated[int, typer.Argument(metavar="ID")], config: ConfigDir = DEFAULT_DIR, json: Json = False
) -> None:
    """Show one dead letter whole, with every reason and its payload."""
    found = read_only(_database(load(config)), lambda connection: dead_letters.get(connection, ident))
    if found is None:
        raise typer.BadParameter(f"there is no dead letter {ident}; see `gateway dead-letters list`")
    if json:
        _print_json(found.as_json())
    else:
        render.console().print(render.letter(found), soft_wrap=True)


@letters_app.command("replay")
def replay_letters(
    idents: Annotated[list[int], typer.Argument(metavar="ID...")],
    config: ConfigDir = DEFAULT_DIR,
    token: Token = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Put dead letters through the running gateway again, after the rule or the store was mended."""
    loaded = load(config)
    client = Client(loaded, token or secrets.operator_token(loaded.settings), url)
    results = client.post("/v1/operator/rejections/replay", {"ids": idents})["results"]
    if json:
        _print_json(results)
    else:
        render.console().print(render.replayed(results))
    raise typer.Exit(0 if all(result["result"] == "accepted" for result in results) else 1)


@app.command()
def version() -> None:
    """Print the version."""
    print(gateway.__version__)


def _database(config: Config) -> Path:
    return config.state_dir / FILE_NAME


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="PAYLOAD") from None
    return text.encode()


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise typer.BadParameter(f"expected a duration such as 20s or 5m; got {text!r}", param_hint="--for") from None


def _on_signals(stop: Any) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


@contextmanager
def _one_error() -> Iterator[None]:
    """Of a group with one error, that one: a TaskGroup wraps what a part raises at its start."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group
        raise


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        return


def _print_json(body: object) -> None:
    print(jsonlib.dumps(body, indent=2, ensure_ascii=False))
