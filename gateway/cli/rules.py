"""`gateway check|schema|try`: check the configuration, and try a message on it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import rendering
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, print_json
from gateway.config import Config, Settings, StartupFile, load
from gateway.errors import ConfigInvalid, StateUnavailable
from gateway.ingest.pipeline import Pipeline, unused
from gateway.model import Message
from gateway.mqtt.broker_probe import probe
from gateway.mqtt.grants import Comparison, Needs
from gateway.rules.declared_types import type_problems
from gateway.state.field_types import by_field
from gateway.state.reader import StateReader


def check(
    directory: Annotated[
        Path,
        typer.Argument(metavar="[DIR]", help="Directory with gateway.yaml and startups/.", envvar="GATEWAY_CONFIG"),
    ] = DEFAULT_DIR,
    broker: Annotated[
        bool, typer.Option("--broker", help="Also ask the broker what it grants, and compare it with what is needed.")
    ] = False,
    json: Json = False,
) -> None:
    """Check a whole configuration: every error at once, with its file, line, what was expected and what was found."""
    try:
        loaded, warnings = _loaded(directory)
    except ConfigInvalid as error:
        if not json:
            raise
        found = [
            {"file": p.file, "line": p.line, "where": p.where, "expected": p.expected, "got": p.got}
            for p in error.problems
        ]
        print_json({"ok": False, "problems": found})
        raise typer.Exit(1) from None
    granted = _granted(loaded) if broker else None
    rules = sum(len(startup.topics) for startup in loaded.startups)
    is_ok = granted is None or granted.is_enough
    if json:
        counts = {"startups": len(loaded.startups), "rules": rules, "warnings": warnings}
        print_json({"ok": is_ok, **counts, **({"broker": granted.as_json()} if granted else {})})
    else:
        for warning in warnings:
            rendering.console().print(rendering.warning(warning))
        if granted:
            rendering.console().print(rendering.granted(granted))
        if is_ok:
            rendering.console().print(f"{rendering.OK} {len(loaded.startups)} startups, {rules} topic rules: all good")
    raise typer.Exit(0 if is_ok else 1)


def _loaded(directory: Path) -> tuple[Config, list[str]]:
    """Return the configuration, whose rules agree with the types on disk, and warnings."""
    loaded = load(directory)
    try:
        known = by_field(StateReader(loaded.state_dir).types())
    except StateUnavailable as error:
        return loaded, [*loaded.warnings, f"the types of fields are not compared with those on disk: {error}"]
    if problems := type_problems(directory, loaded, known):
        raise ConfigInvalid(problems)
    return loaded, list(loaded.warnings)


def _granted(config: Config) -> Comparison:
    needs = Needs.of(config)
    return Comparison.of(needs, asyncio.run(probe(config.settings.mqtt, needs)))


class SchemaOf(StrEnum):
    """Files that have a schema."""

    STARTUP = "startup"
    GATEWAY = "gateway"


def schema(of: Annotated[SchemaOf, typer.Argument(help="The file to describe.")] = SchemaOf.STARTUP) -> None:
    """Print the JSON Schema of startups/*.yaml or gateway.yaml, for editors."""
    model = StartupFile if of is SchemaOf.STARTUP else Settings
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()})


def try_out(
    topic: str,
    payload: Annotated[str, typer.Argument(help="The payload; @FILE reads a file, - reads standard input.")],
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Try a message without sending it: prints its readings and their line protocol, or every reason against it."""
    loaded = load(config)
    pipeline = Pipeline(loaded, unused(loaded.startups))
    result = pipeline.evaluate(Message(topic, _payload(payload)), time.time_ns())
    if json:
        print_json(rendering.evaluation_json(result))
    else:
        rendering.console().print(rendering.evaluation(result), soft_wrap=True)
    raise typer.Exit(1 if result.rejection else 0)


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="PAYLOAD") from None
    return os.fsencode(text)
