"""Every example in the documentation is what the gateway takes, or rejects as the document says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.config import load
from gateway.config.models import Settings
from gateway.feeds.live_ring import LiveFeeds
from gateway.ingest.outcome import Evaluation
from gateway.ingest.pipeline import Pipeline, unused
from gateway.model import Batch, Code, Message, Reason
from gateway.provision.settings import load_provision
from gateway.state import journal
from gateway.state.journal import Journal
from gateway.state.worker_state import WorkerState
from gateway.stores.drain import Drain
from gateway.stores.sqlite import SqliteStore
from gateway.timestamps import NS
from tests.builders import outcome_of
from tests.docs.blocks import ROOT, Block, all_blocks, blocks
from tests.docs.compare import same
from tests.servers import eventually

NOW_NS = 1_795_421_730 * NS
"""2026-11-23 08:15:30 UTC, as the device guide says."""

GUIDE = ROOT / "docs" / "device-guide.md"
TRIED = [block for block in blocks(GUIDE) if block.kind.startswith("try")]
STARTUP: Mapping[str, Any] = {
    "name": "Acme",
    "topics": {"climate": {"topic": "testbed/acme/{device}/x", "fields": {"t": {"type": "float"}}}},
}


def evaluate(block: Block) -> Evaluation:
    """Evaluate the payload of a `try` block with the sample configuration."""
    config = load(ROOT / "config")
    if ended := re.fullmatch(r"try with the end (\S+)", block.kind):
        until = date.fromisoformat(ended[1])
        startups = tuple(startup.model_copy(update={"until": until}) for startup in config.startups)
        config = config.model_copy(update={"startups": startups})
    if block.kind == "try blocked":
        startups = tuple(startup.model_copy(update={"blocked": ("air-01",)}) for startup in config.startups)
        config = config.model_copy(update={"startups": startups})
    pipeline = Pipeline(config, unused(config.startups))
    topic = block.argument.partition(" -> ")[0]
    payload = block.text.encode()
    if padded := re.fullmatch(r"try padded to (\d+)", block.kind):
        payload = payload.ljust(int(padded[1]))
    if block.kind == "try types":
        pipeline.evaluate(Message(topic, payload.replace(b'"strong"', b"-70")), NOW_NS)
    message = Message(topic, payload, retain=block.kind == "try retained")
    if after := re.fullmatch(r"try after (\d+)", block.kind):
        outcome_of(pipeline, Batch([message] * int(after[1]), NOW_NS))
        outcome = outcome_of(pipeline, Batch([message], NOW_NS))
        return Evaluation(outcome.readings.get("acme", ()), (), next(iter(outcome.rejections), None))
    return pipeline.evaluate(message, NOW_NS)


def code_and_place(reason: Reason) -> str:
    return f"{reason.code.value} {reason.where}"


@pytest.mark.parametrize("block", TRIED, ids=str)
def test_a_payload_gives_what_the_guide_says(block: Block) -> None:
    """Each payload of the device guide is accepted, or rejected with the codes and places that stand there."""
    result = evaluate(block)
    wanted = block.argument.partition(" -> ")[2].split(", ")
    accepted = [item for item in wanted if item.startswith("accepted")]
    count = int(accepted[0].removeprefix("accepted") or 1) if accepted else 0
    assert len(result.readings) == count
    reasons = result.rejection.reasons if result.rejection else ()
    assert [code_and_place(reason) for reason in reasons] == [item for item in wanted if item not in accepted]


def answered() -> list[tuple[Block, Block]]:
    """Return each `answers` block, and the payload before it."""
    found = []
    last: Block | None = None
    for block in blocks(GUIDE):
        if block.kind.startswith("try"):
            last = block
        elif block.marker == "answers":
            assert last is not None
            found.append((last, block))
    return found


@pytest.mark.parametrize(("payload", "answer"), answered(), ids=str)
def test_the_answer_is_the_one_in_the_guide(payload: Block, answer: Block) -> None:
    """The reasons of a rejected payload read, word for word, as the device guide quotes them."""
    rejection = evaluate(payload).rejection
    assert rejection is not None
    assert [str(reason) for reason in rejection.reasons] == answer.text.splitlines()


def test_every_code_has_a_section_with_an_example() -> None:
    """The device guide explains every code there is and no other; each one is shown by an example."""
    text = GUIDE.read_text(encoding="utf-8")
    sections = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    assert sections == [code.value for code in Code]
    shown = {item.split()[0] for block in TRIED for item in block.argument.partition(" -> ")[2].split(", ")}
    assert {code.value for code in Code} - shown == {Code.STORE_REFUSED.value}


async def test_what_the_store_refuses_is_reported_as_in_the_guide(tmp_path: Path) -> None:
    """The feedback for a point whose field has changed its type is the one in the device guide."""
    (block,) = [block for block in blocks(GUIDE) if block.marker == "refused by the store"]
    live = LiveFeeds(10)
    settings = Settings()
    state = WorkerState.of(tmp_path, settings, {})
    store = SqliteStore(tmp_path / "store")
    await store.open()
    await store.write("acme", [b"air,device=air-01 co2=612i 1"])
    async with state.opened():
        drain = Drain(state, store, settings.drain, live)
        arrived = {"acme": journal.Block.of(["air,device=air-01 co2=612.5 1795421730000000000"])}
        await state.database.write(lambda connection: Journal.append(connection, arrived))
        state.journal.appended(arrived)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drain.run(["acme"]))
            await eventually(lambda: live.feed("acme").recent(), says="the refused point is reported")
            drain.stop()
    await store.close()
    (event,) = live.feed("acme").recent()
    assert same(json.loads(block.text), json.loads(event.json))


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_yaml_examples_are_loaded(block: Block, tmp_path: Path) -> None:
    """Each example of gateway.yaml, of provision.yaml or of a startup's file is one that the gateway takes."""
    yaml = YAML()
    part = yaml.load(block.text)
    (tmp_path / "startups").mkdir()
    if block.argument in ("gateway.yaml", "provision.yaml"):
        yaml.dump(dict(STARTUP), tmp_path / "startups" / "acme.yaml")
        yaml.dump(part, tmp_path / block.argument)
    else:
        assert block.argument == "startup", f"{block}: there is no way to load {block.argument!r}"
        whole = {**STARTUP, **part}
        slug = next(iter(whole["topics"].values()))["topic"].split("/")[1]
        yaml.dump(whole, tmp_path / "startups" / f"{slug}.yaml")
    assert load(tmp_path).startups
    load_provision(tmp_path)


@pytest.mark.parametrize("block", all_blocks("file"), ids=str)
def test_files_that_readers_write_are_loaded(block: Block, tmp_path: Path) -> None:
    """Each startup's file that a document has its reader write is one that the gateway takes."""
    path = tmp_path / block.argument
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if path.parent.name == "startups":
        assert not load(path.parents[1]).warnings
