"""From the session to the journal: decode, validate, commit, and only then acknowledge.

Invariants:
- A batch is acknowledged after the transaction that holds its readings, its dead letters and its counts is on disk.
- While the journal is full, or the disk cannot be written, nothing is taken from the session: the broker holds it.
- Batches are committed one after the other, in the order of arrival; whatever arrives meanwhile is the next batch.
- The listener is called after the acknowledgement, once a batch for its readings and once for its rejections.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping

from gateway.backoff import pauses
from gateway.errors import ReplayRefused, StateUnavailable
from gateway.ingest.pipeline import Outcome, Pipeline
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import Listener, Message
from gateway.mqtt.session import Session
from gateway.state import dead_letters, ledger
from gateway.state.dead_letters import DeadLetter
from gateway.state.journal import Block, Journal
from gateway.state.worker_state import WorkerState
from gateway.timestamps import NS

GATHER = 0.005
"""Seconds between two batches, at least: messages that arrive meanwhile share the cost of the next."""
GATHER_EACH = 0.00003
"""Further seconds for each startup in the batch, since each has a cost of its own."""

GONE = "dead letter {} no longer exists: it was replayed, or dropped to make room for newer ones"

log = get_logger(__name__)

Blocks = Mapping[str, Block]


class Ingest:
    """From the session to the journal. `listener` is notified of each outcome once it is on disk."""

    def __init__(
        self, session: Session, pipeline: Pipeline, state: WorkerState, metrics: Metrics, listener: Listener
    ) -> None:
        self._session = session
        self._pipeline = pipeline
        self._state = state
        self._metrics = metrics
        self._listener = listener
        self.problem = ""
        self.batches = 0
        self.is_busy = False

    async def run(self) -> None:
        """Work until the session is stopped and everything that it brought is on disk and acknowledged."""
        async for batch in self._session.batches():
            began = time.monotonic()
            self.is_busy = True
            await self._state.journal.room()
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

    def use(self, pipeline: Pipeline) -> None:
        """Use new rules from the next batch on."""
        self._pipeline = pipeline

    def measurement_of(self, topic: str) -> str:
        """Return the measurement of the rule that matches a topic, or an empty string."""
        rule = self._pipeline.route(topic).rule
        return rule.measurement if rule else ""

    async def replay(self, dead_letter: DeadLetter) -> Outcome:
        """Process a dead letter again; it is deleted once the new outcome, good or bad, is on disk.

        Raises:
            ReplayRefused: it no longer exists, was kept cut, its startup is not configured, or the journal is full.
        """
        rejection, outcome = dead_letter.rejection, Outcome()
        if not dead_letter.is_whole:
            raise ReplayRefused(
                f"dead letter {dead_letter.id} cannot be replayed: {dead_letter.kept:,} of the {rejection.size:,} bytes"
                " of its payload were kept; let the device send it again, or raise dead_letters.max_size"
            )
        if not dead_letter.is_line:
            message = Message(rejection.topic, rejection.payload)
            outcome.add(self._pipeline.evaluate(message, rejection.arrived_ns, rejection.records, metered=False))
        elif rejection.startup in self._pipeline.meters:
            outcome.lines[rejection.startup] = [rejection.payload.decode()]
        else:
            raise ReplayRefused(f"startup {rejection.startup!r} is no longer configured")
        blocks = _blocks(outcome)
        if any(self._state.journal.is_full_for(startup) for startup in blocks):
            raise ReplayRefused("the journal is full: replay it once the store accepts readings again")

        def work(connection: sqlite3.Connection) -> None:
            if not dead_letters.delete(connection, dead_letter):
                raise ReplayRefused(GONE.format(dead_letter.id))
            self._write(connection, outcome, blocks)

        await self._state.database.write(work)
        self._committed(outcome, blocks)
        return outcome

    async def _commit(self, outcome: Outcome, blocks: Blocks) -> None:
        """Write the outcome, however long that takes: what is not on disk must not be acknowledged."""
        waits = pauses()
        while True:
            try:
                await self._state.database.write(lambda connection: self._write(connection, outcome, blocks))
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
            self._state.keep(connection, outcome.rejections)
            ledger.add(connection, outcome.rejected())

    def _committed(self, outcome: Outcome, blocks: Blocks) -> None:
        self._state.journal.appended(blocks)
        for startup in blocks:
            meter = self._pipeline.meters.get(startup)  # none where a reload has removed the startup meanwhile
            if meter is not None and (new := meter.take_new_series()):
                self._state.registry.saw_series(startup, new)
        if outcome.readings:
            self._listener.accepted(outcome.readings)
        if outcome.rejections:
            self._listener.rejected(outcome.rejections)

    def _note_devices(self, outcome: Outcome, now_ns: int) -> None:
        registry = self._state.registry
        for startup, readings in outcome.readings.items():
            registry.saw(startup, [reading.device for reading in readings], now_ns)
        for rejection in outcome.rejections:
            registry.saw_rejected(rejection.startup, rejection.device, rejection.count, now_ns)


def _blocks(outcome: Outcome) -> Blocks:
    return {startup: Block.of(lines) for startup, lines in outcome.lines.items()}
