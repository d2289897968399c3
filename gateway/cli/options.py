"""Options and helpers shared by the commands."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.encoding import as_json
from gateway.config.notations import parse_duration

ConfigDir = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="DIR",
        help="Directory with gateway.yaml and startups/.",
        envvar="GATEWAY_CONFIG",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Token = Annotated[
    str | None,
    typer.Option(help="API token; default: the operators', as configured.", envvar="GATEWAY_TOKEN"),
]
Url = Annotated[str | None, typer.Option(help="URL of the gateway; default: http.listen in gateway.yaml.")]
DEFAULT_DIR = Path("config")


def duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise typer.BadParameter(f"expected a duration such as 20s or 5m; got {text!r}", param_hint="--for") from None


def on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


@contextmanager
def one_error() -> Iterator[None]:
    """Raise the error of a group with only one: a TaskGroup wraps what a part raises at its start."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group
        raise


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        return


def print_json(body: object) -> None:
    print(as_json(body, indent=2))
