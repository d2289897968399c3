"""Small makers of what tests need: configurations, rules, messages, pipelines, rejections, databases."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

from gateway.config import Config, Settings, Startup, TopicRule, load
from gateway.ingest.outcome import Outcome
from gateway.ingest.pipeline import Pipeline, unused
from gateway.model import Batch, Code, Message, Reading, Reason, Rejection
from gateway.mqtt.session_plan import SessionPlan
from gateway.state.database import Database
from gateway.stores.contract import Store
from gateway.timestamps import NS

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "config"
NOW = 1_795_000_000 * NS
"""A moment (2026-11-18) that tests take for now."""

STARTUP = """\
name: Acme Air
topics:
  climate:
    topic: testbed/acme/{device}/climate
    fields:
      temperature: {type: float}
"""
"""startups/acme.yaml, as short as it can be."""


def write_config(directory: Path, gateway: str | None = None, **startups: str) -> Path:
    """Write gateway.yaml (unless None) and startups/*.yaml; `_` in a keyword stands for `-` in a slug."""
    folder = directory / "startups"
    folder.mkdir(parents=True, exist_ok=True)
    if gateway is not None:
        (directory / "gateway.yaml").write_text(gateway, encoding="utf-8")
    for slug, text in (startups or {"acme": STARTUP}).items():
        (folder / f"{slug.replace('_', '-')}.yaml").write_text(text, encoding="utf-8")
    return directory


def samples() -> Config:
    """Return the configuration that the repository ships."""
    return load(SAMPLES)


def rule(fields: Mapping[str, Any] | None = None, **settings: Any) -> TopicRule:
    """Make a topic rule; without fields it has one, `value`, a float."""
    whole = {"topic": "testbed/acme/{device}/climate", "fields": fields or {"value": {"type": "float"}}, **settings}
    return TopicRule.model_validate(whole)


def startup(slug: str = "acme", topics: Mapping[str, Any] | None = None, **settings: Any) -> Startup:
    """Make a startup; without topics it has one rule, `climate`, of one float `value`."""
    template = f"testbed/{slug}/{{device}}/climate"
    rules = topics or {"climate": {"topic": template, "fields": {"value": {"type": "float"}}}}
    return Startup.model_validate({"slug": slug, "name": slug.title(), "topics": rules, **settings})


def config(*startups: Startup) -> Config:
    """Make a configuration of these startups, else of one, with default settings."""
    return Config(settings=Settings(), startups=startups or (startup(),))


def session_plan(
    wanted: Mapping[str, Sequence[str]], elsewhere: Mapping[str, Sequence[str]] | None = None, *, looks: bool = False
) -> SessionPlan:
    """Make a plan in which each session has the name of its startup."""
    others = {name: tuple(filters) for name, filters in (elsewhere or {}).items()}
    here = {name: tuple(filters) for name, filters in wanted.items()}
    return SessionPlan(here, others, frozenset({*here, *others}), looks)


def pipeline(*startups: Startup, previous: Pipeline | None = None) -> Pipeline:
    """Make a pipeline over `config`, nothing used yet."""
    made = config(*startups)
    return Pipeline(made, unused(made.startups), previous)


def message(payload: bytes | str = b'{"value": 1}', topic: str = "testbed/acme/th-1/climate", **more: Any) -> Message:
    """Make a message to the rule that `startup` makes."""
    return Message(topic, payload.encode() if isinstance(payload, str) else payload, **more)


def outcome_of(made: Pipeline, one: Batch) -> Outcome:
    """Return what a pipeline makes of a batch alone."""
    outcome = Outcome()
    made.process(one, outcome)
    outcome.forget_empty()
    return outcome


def batch(*messages: Message, arrived_ns: int = NOW) -> Batch:
    return Batch(messages, arrived_ns)


def rejection(
    payload: bytes = b"{", startup: str = "acme", records: Sequence[int] = (), topic: str = "testbed/acme/th-1/climate"
) -> Rejection:
    """Make a rejection for one reason."""
    reasons = (Reason(Code.NOT_JSON, "payload", "a JSON object", "a brace", "close it"),)
    return Rejection(startup, "th-1", topic, payload, NOW, reasons, tuple(records))


@asynccontextmanager
async def database(path: Path) -> AsyncIterator[Database]:
    """Open a state database, and close it in the end."""
    opened = Database(path)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def on_disk(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` over what another process would find in a state database now. The event loop waits for it."""

    def read() -> T:
        with closing(sqlite3.connect(path)) as connection:
            return work(connection)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(read).result()


async def latest(store: Store, slug: str) -> list[Reading]:
    """Return the newest reading of every series that a store has of a startup."""
    return [one async for chunk in store.latest(slug) for one in chunk]
