"""From the session to the journal: decode, validate, commit, and only then acknowledge.

Invariants:
- A batch is acknowledged after the transaction that holds its readings, its dead letters and its counts is on disk.
- While the journal is full, or the disk cannot be written, nothing is taken from the session: the broker holds it.
- Batches are committed one after the other, in the order of arrival; whatever arrives meanwhile is the next.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping

from gateway.backoff import pauses
from gateway.config.models import DeadLetterSettings
from gateway.errors import ReplayRefused, StateUnavailable
from gateway.ingest.pipeline import Outcome, Pipeline
from gateway.ingest.quota import QuotaMeter
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import Message
from gateway.mqtt.session import Session
from gateway.state import dead_letters, ledger
from gateway.state.database import Database
from gateway.state.dead_letters import DeadLetter
from gateway.state.devices import DeviceRegistry
from gateway.state.journal import Block, Journal
from gateway.timestamps import NS

GATHER = 0.005
"""Seconds between two batches, at least: what comes meanwhile shares the cost of the next."""
GATHER_EACH = 0.00003
"""Further seconds for each startup in the batch, since each has a cost of its own."""

log = get_logger(__name__)

Publish = Callable[[Outcome], None]
Blocks = Mapping[str, Block]


class Ingest:
    """Owns the way in. `publish` is called with each outcome once it is on disk; it must not block."""

    def __init__(
        self,
        session: Session,
        pipeline: Pipeline,
        journal: Journal,
        database: Database,
        registry: DeviceRegistry,
        meters: Mapping[str, QuotaMeter],
        metrics: Metrics,
        bounds: DeadLetterSettings,
        publish: Publish,
    ) -> None:
        self._session = session
        self._pipeline = pipeline
        self._journal = journal
        self._database = database
        self._registry = registry
        self._meters = meters
        self._metrics = metrics
        self._bounds = bounds
        self._publish = publish
        self.problem = ""
        self.batches = 0
        self.is_busy = False

    async def run(self) -> None:
        """Until the session is stopped and everything that it brought is on disk and acknowledged."""
        async for batch in self._session.batches():
            began = time.monotonic()
            self.is_busy = True
            await self._journal.room()
            outcome = self._pipeline.process(batch)
            blocks = _blocks(outcome)
            await self._commit(outcome, blocks)
            self._session.ack(batch)
            self.batches += 1
            self.is_busy = False
            self._note_devices(outcome, batch.arrived_ns)
            self._committed(outcome, blocks)
            self._metrics.batch_messages.observe(len(batch.messages))
            self._metrics.commit_seconds.observe((time.time_ns() - batch.arrived_ns) / NS)
            pause = GATHER + GATHER_EACH * len(blocks)
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))

    def use(self, pipeline: Pipeline, meters: Mapping[str, QuotaMeter]) -> None:
        """Take other rules from the next batch on."""
        self._pipeline = pipeline
        self._meters = meters

    def measurement_of(self, topic: str) -> str:
        """The measurement of the rule that matches a topic, or an empty text."""
        rule = self._pipeline.route(topic).rule
        return rule.measurement if rule else ""

    async def replay(self, letter: DeadLetter) -> Outcome:
        """Put a dead letter through again; it is gone once the new outcome, good or bad, is on disk.

        Raises:
            ReplayRefused: it is gone already, or its startup is.
        """
        if letter.is_line and letter.rejection.startup not in self._meters:
            raise ReplayRefused(f"startup {letter.rejection.startup!r} is not configured any more")
        outcome = self._again(letter)
        blocks = _blocks(outcome)
        await self._journal.room()

        def work(connection: sqlite3.Connection) -> None:
            if not dead_letters.delete(connection, letter):
                raise ReplayRefused(f"dead letter {letter.id} is gone: it was replayed, or made room for newer ones")
            self._write(connection, outcome, blocks)

        await self._database.write(work)
        self._committed(outcome, blocks)
        return outcome

    def _again(self, letter: DeadLetter) -> Outcome:
        kept = letter.rejection
        outcome = Outcome()
        if letter.is_line:
            outcome.lines[kept.startup] = [kept.payload.decode()]
        else:
            message = Message(kept.topic, kept.payload)
            outcome.add(self._pipeline.evaluate(message, kept.arrived_ns, kept.records, metered=False))
        return outcome

    async def _commit(self, outcome: Outcome, blocks: Blocks) -> None:
        """Write it, however long that takes: what is not on disk must not be acknowledged."""
        waits = pauses()
        while True:
            try:
                await self._database.write(lambda connection: self._write(connection, outcome, blocks))
            except StateUnavailable as error:
                if str(error) != self.problem:
                    log.warning("nothing is acknowledged until the disk can be written", problem=str(error))
                self.problem = str(error)
                await asyncio.sleep(next(waits))
            else:
                self.problem = ""
                return

    def _write(self, connection: sqlite3.Connection, outcome: Outcome, blocks: Blocks) -> None:
        if blocks:
            Journal.append(connection, blocks)
        if outcome.rejections:
            dead_letters.insert(connection, outcome.rejections, self._bounds)
            ledger.add(connection, outcome.rejected())

    def _committed(self, outcome: Outcome, blocks: Blocks) -> None:
        self._journal.appended(blocks)
        for startup in blocks:
            meter = self._meters.get(startup)  # none where a reload has taken the startup away meanwhile
            if meter is not None and (new := meter.take_new_series()):
                self._registry.saw_series(startup, new)
        self._metrics.rejected(outcome.rejections)
        self._publish(outcome)

    def _note_devices(self, outcome: Outcome, now_ns: int) -> None:
        for startup, readings in outcome.readings.items():
            self._registry.saw(startup, [reading.device for reading in readings], now_ns)
        for rejection in outcome.rejections:
            self._registry.saw_rejected(rejection.startup, rejection.device, rejection.count, now_ns)


def _blocks(outcome: Outcome) -> Blocks:
    return {startup: Block.of(lines) for startup, lines in outcome.lines.items()}
