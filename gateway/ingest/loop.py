"""From the sessions to the journal: decode, validate, commit, and only then acknowledge.

Invariants:
- A batch is acknowledged after the transaction that holds its readings, its dead letters and its counts is on disk.
- While the journal is full, or the disk cannot be written, nothing is taken from the sessions: the broker holds it.
  While a startup has filled its share of the journal, nothing of that startup is.
- Rounds are committed one after the other, in the order of arrival. While one is on its way to the disk, the next is
  read and processed.
- In a round the source that has used the least time lately comes first, and the length of a round is bounded: a startup
  that sends much delays the others by a few milliseconds.
- A startup over its quota is not read faster: its messages wait at the broker, and are rejected only if that lasts.
- The listener is called after the acknowledgement, once a round for its readings and once for its rejections.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Mapping
from functools import partial

from gateway.backoff import pauses
from gateway.config import Config
from gateway.errors import GatewayError, ReplayImpossible, StateUnavailable
from gateway.ingest.commit import Blocks, blocks_of, write
from gateway.ingest.numbers import Numbers
from gateway.ingest.outcome import Outcome
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.quota import QuotaMeter
from gateway.ingest.replay_turns import ReplayTurns, line_of
from gateway.ingest.rounds import Round
from gateway.ingest.turns import Turns
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.model import Listener, Message
from gateway.mqtt.session import Source
from gateway.mqtt.session_plan import startup_of
from gateway.mqtt.sessions import Sessions
from gateway.state import dead_letters
from gateway.state.dead_letters import DeadLetter
from gateway.state.sequences import Key
from gateway.state.worker_state import WorkerState
from gateway.timestamps import NS

GATHER = 0.005
"""Seconds between two rounds, at least: messages that arrive meanwhile share the cost of the next."""
REST_EACH = 0.0005
"""Seconds that a source is not read after its turn, for each of those that rest: a read, an acknowledgement and lines
of its own cost as much as several messages, so the more sources are busy, the more messages each read has to bring. One
that has been quiet is read at once."""
REST_MOST = 0.25
CHUNK = 200
"""Messages after which a turn looks at the clock."""
TURN = 0.005
"""Seconds of processing that one source may use in a round while others wait."""
ROUND = 0.01
"""Seconds of processing after which a round ends; a turn that has begun is finished."""
JOURNAL_CHECK_EVERY = 0.2
"""Seconds after which a startup that has filled its share of the journal is looked at again."""
SAMPLE_EVERY = 0.25
"""Seconds between looks for samples of messages over quota that are due."""

GONE = "dead letter {} no longer exists: it was replayed, or dropped to make room for newer ones"

log = get_logger(__name__)


class Ingest:
    """From the sessions to the journal. `listener` is notified of each outcome once it is on disk."""

    def __init__(
        self, sessions: Sessions, pipeline: Pipeline, state: WorkerState, metrics: Metrics, listener: Listener
    ) -> None:
        self._sessions = sessions
        self._pipeline = pipeline
        self._numbers = Numbers(pipeline.config, pipeline.route)
        self._state = state
        self._metrics = metrics
        self._listener = listener
        self._turns = Turns()
        self._replay_turns = ReplayTurns()
        self._resting = 0
        self._open_rounds = 0
        self._decides_at = 0.0
        self.problem = ""
        self.batches = 0

    @property
    def is_busy(self) -> bool:
        """Whether messages were taken that are not on disk yet, or are not decided."""
        return self._open_rounds > 0 or self.holds

    @property
    def holds(self) -> bool:
        """Whether messages wait on disk until the types of their fields are certain."""
        return not self._pipeline.waiting.is_empty

    async def run(self) -> None:
        """Work until the sessions are stopped and everything that they brought is on disk and acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(self._sample(), name="ingest-samples")
            committing: asyncio.Task[None] | None = None
            loop = asyncio.get_running_loop()
            while await self._sessions.arrived():
                began = loop.time()
                await self._state.journal.room()
                one = self._process_round()
                is_cut = bool(self._sessions.ready)
                if committing is not None:
                    await committing
                self._rest(one, began)
                committing = tasks.create_task(self._finish(one), name="ingest-commit")
                await asyncio.sleep(0.0 if is_cut else max(0.0, began + GATHER - loop.time()))
            sampling.cancel()
            await self._keep_samples(at_end=True)

    def _rest(self, one: Round, began: float) -> None:
        """Leave the sources of a round unread for a while after it began."""
        loop, sources = asyncio.get_running_loop(), one.sources
        self._resting += len(sources)
        rest = min(REST_MOST, GATHER + REST_EACH * self._resting)
        busy = one.busy
        for source in sources:
            loop.call_at(began + (GATHER if id(source) in busy else rest), self._resume, source)

    def _resume(self, source: Source) -> None:
        self._resting -= 1
        source.resume()

    def _process_round(self) -> Round:
        """Take and process messages of each source that is ready, as far as the time of a round allows."""
        one = Round()
        ready, clock = self._sessions.ready, time.perf_counter
        turns = self._turns.order(ready)
        ends = clock() + ROUND
        for name in turns:
            startup = startup_of(name)
            meter = self._pipeline.meters.get(startup)
            wait = meter.wait(time.time_ns()) if meter else None
            if self._state.journal.is_full_for(startup):
                wait = JOURNAL_CHECK_EVERY
            if wait:
                self._sessions.hold(name, wait)
                continue
            began = clock()
            waits = meter if wait is not None else None
            self._take_turn(name, one, waits, ends=began + (TURN if len(turns) > 1 else ROUND))
            now = clock()
            self._turns.charge(name, now - began)
            if now >= ends:
                break
        one.outcome.forget_empty()
        self._decide(one.outcome)
        self._pipeline.take_new(time.time_ns(), one.outcome)
        self._open_rounds += 1
        return one

    def _decide(self, outcome: Outcome) -> None:
        """Add to a round what becomes of the messages that wait no longer; a few times a second."""
        now = time.monotonic()
        if now >= self._decides_at and self.holds:
            self._decides_at = now + SAMPLE_EVERY
            self._pipeline.decide(time.time_ns(), outcome)

    def _take_turn(self, name: str, one: Round, waits: QuotaMeter | None, *, ends: float) -> None:
        """Process messages of one source until it has no more, they are over their quota and wait, or time is up."""
        source = self._sessions.ready[name]
        while batch := source.take(CHUNK):
            done = self._pipeline.process(batch, one.outcome, waits=waits)
            if done < len(batch.messages):
                batch = source.put_back(batch, done)
                if done:
                    one.batches.append((source, batch))
                return
            one.batches.append((source, batch))
            if time.perf_counter() >= ends:
                return
        self._sessions.ready.pop(name, None)

    async def _sample(self) -> None:
        """Commit the samples of messages over quota when they are due, and what waited for a type."""
        while True:
            await asyncio.sleep(SAMPLE_EVERY)
            if self._pipeline.samples.is_pending or self.holds:
                await self._keep_samples()

    async def _keep_samples(self, *, at_end: bool = False) -> None:
        one = Round()
        one.outcome.rejections += self._pipeline.samples.due(time.time_ns(), at_end=at_end)
        if not self._open_rounds:  # else that round may have made types that are not on their way to the disk yet
            self._decide(one.outcome)
            self._pipeline.take_new(time.time_ns(), one.outcome)
        self._open_rounds += 1
        await self._finish(one)

    async def _finish(self, one: Round) -> None:
        """Commit a round, acknowledge what is in it, and report it."""
        if one.is_empty:
            self._open_rounds -= 1
            return
        blocks = blocks_of(one.outcome)
        await self._commit(one.outcome, blocks, self._numbers.observed(one.outcome, self._state.sequences))
        for source, batch in one.batches:
            source.ack(batch)
        self.batches += 1
        self._open_rounds -= 1
        arrived_ns = min((batch.arrived_ns for _, batch in one.batches), default=time.time_ns())
        self._note_devices(one.outcome, arrived_ns)
        self._committed(one.outcome, blocks)
        self._metrics.batch_messages.observe(one.messages)
        self._metrics.commit_seconds.observe((time.time_ns() - arrived_ns) / NS)

    def use(self, config: Config, meters: Mapping[str, QuotaMeter]) -> None:
        """Use new rules from the next round on."""
        self._pipeline = Pipeline(config, meters, self._pipeline)
        self._numbers = Numbers(config, self._pipeline.route)
        self._state.sequences.forget(config.by_slug)

    def measurement_of(self, topic: str) -> str:
        """Return the measurement of the rule that matches a topic, or an empty string."""
        rule = self._pipeline.route(topic).rule
        return rule.measurement if rule else ""

    async def replay(self, dead_letter: DeadLetter) -> Outcome:
        """Process a dead letter again, in turn; it is deleted once the new outcome, good or bad, is on disk.

        Raises:
            ReplayImpossible: it no longer exists, its payload was cut, its startup is not configured, or the journal is
                full.
        """
        rejection, outcome = dead_letter.rejection, Outcome()
        if not dead_letter.is_whole:
            raise ReplayImpossible(
                f"dead letter {dead_letter.id} cannot be replayed: {dead_letter.kept:,} of the {rejection.size:,} bytes"
                " of its payload were kept; let the device send it again, or raise dead_letters.max_size"
            )
        async with self._replay_turns.turn(rejection.startup, dead_letter.kept):
            if not dead_letter.is_line:
                message = Message(rejection.topic, rejection.payload)
                outcome.add(self._pipeline.evaluate(message, rejection.arrived_ns, rejection.records))
            elif rejection.startup in self._pipeline.meters:
                outcome.lines[rejection.startup] = [line_of(dead_letter)]
            else:
                raise ReplayImpossible(f"startup {rejection.startup!r} is no longer configured")
        blocks = blocks_of(outcome)
        self._pipeline.take_new(time.time_ns(), outcome)
        if any(self._state.journal.is_full_for(startup) for startup in blocks):
            self._pipeline.put_back(outcome)
            raise ReplayImpossible("the journal is full: replay it once the store accepts readings again")

        def work(connection: sqlite3.Connection) -> None:
            if not dead_letters.delete(connection, dead_letter):
                raise ReplayImpossible(GONE.format(dead_letter.id))
            write(self._state, outcome, blocks, (), connection)

        async def commit() -> None:
            try:
                await self._state.database.write(work)
            except GatewayError:
                self._pipeline.put_back(outcome)
                raise
            self._committed(outcome, blocks)

        # Whoever waits for it may give up: what is written must be counted all the same.
        await asyncio.shield(asyncio.ensure_future(commit()))
        return outcome

    async def _commit(self, outcome: Outcome, blocks: Blocks, numbers: Iterable[Key]) -> None:
        """Write the outcome, however long that takes: what is not on disk must not be acknowledged."""
        waits = pauses()
        while True:
            rows = self._state.sequences.rows(numbers)  # each time: other rounds may have gone on counting
            try:
                await self._state.database.write(partial(write, self._state, outcome, blocks, rows), grows=True)
            except StateUnavailable as error:
                if str(error) != self.problem:
                    log.warning("nothing is acknowledged until the disk can be written", problem=str(error))
                self.problem = str(error)
                await asyncio.sleep(next(waits))
            else:
                self.problem = ""
                return

    def _committed(self, outcome: Outcome, blocks: Blocks) -> None:
        self._state.journal.appended(blocks)
        self._pipeline.waiting.written(outcome.waiting)
        for startup, new in outcome.series.items():
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
