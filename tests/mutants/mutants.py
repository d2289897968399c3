"""The mutants: what is wrong with each, the change, and the test that kills it.

To add one: a name, what a user would suffer from it, its file below `gateway/`, a piece of text that occurs there
exactly once, what takes its place, and the id of a test that is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """`promise` is the number of the promise in docs/guarantees.md that it breaks, `within` how many seconds its test
    may take: a mutant may make it hang."""

    name: str
    promise: int
    file: str
    old: str
    new: str
    test: str
    within: float = 25.0


LOOP = "tests/unit/ingest/test_loop.py"
LANES = "tests/unit/stores/test_lanes.py"
DATABASE = "tests/unit/state/test_database.py"
JOURNAL = "tests/unit/state/test_journal.py"
LETTERS = "tests/unit/state/test_dead_letters.py"
BATCHES = "tests/unit/ingest/test_pipeline_batches.py"
MQTT5 = "tests/unit/mqtt/test_mqtt5.py"
SESSIONS = "tests/contract/test_sessions.py"
STORES = "tests/contract/test_stores.py"

CRASH = "tests/crash/test_crash.py::test_nothing_is_lost_by_a_fault"
COMMIT = """\
        await self._commit(one.outcome, blocks, self._numbers.observed(one.outcome, self._state.sequences))
        for source, batch in one.batches:
            source.ack(batch)
"""
ACK_FIRST = """\
        for source, batch in one.batches:
            source.ack(batch)
        await self._commit(one.outcome, blocks, self._numbers.observed(one.outcome, self._state.sequences))
"""

MUTANTS: Final = (
    # ------------------------------------------------------------------ 1: acknowledged means on disk
    Mutant(
        "acknowledge before the commit",
        1,
        "ingest/loop.py",
        COMMIT,
        ACK_FIRST,
        f"{LOOP}::test_a_batch_is_acknowledged_when_it_is_on_disk",
    ),
    Mutant(
        "acknowledge before the commit, seen from outside",
        1,
        "ingest/loop.py",
        COMMIT,
        ACK_FIRST,
        f"{CRASH}[kill-before-commit]",
        within=90.0,
    ),
    Mutant(
        "acknowledge what the disk did not take",
        1,
        "ingest/loop.py",
        "                self.problem = str(error)\n                await asyncio.sleep(next(waits))\n",
        "                self.problem = str(error)\n                return\n",
        f"{LOOP}::test_nothing_is_acknowledged_while_the_disk_cannot_be_written",
    ),
    Mutant(
        "no fsync of the journal",
        1,
        "state/database.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = OFF",
        f"{DATABASE}::test_durable_settings",
    ),
    Mutant(
        "fsync of the journal at checkpoints only",
        1,
        "state/database.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        f"{DATABASE}::test_durable_settings",
    ),
    Mutant(
        "report a failed commit as done",
        1,
        "state/group_commit.py",
        "        return [failure] * len(group)",
        "        return [None] * len(group)",
        f"{DATABASE}::test_disk_that_cannot_be_written",
    ),
    Mutant(
        "keep what failed half-way",
        1,
        "state/group_commit.py",
        '        writer.execute("ROLLBACK TO job")\n',
        "",
        f"{DATABASE}::test_failing_work_is_rolled_back_alone",
    ),
    Mutant(
        "acknowledge a batch of the old connection on the new one",
        1,
        "mqtt/mqtt5.py",
        "if self._connection is not None and batch.connection == self._link.current and",
        "if self._connection is not None and",
        f"{MQTT5}::test_batch_of_the_last_connection_is_not_acknowledged_on_the_next",
    ),
    Mutant(
        "keep messages of the old connection, which come again",
        1,
        "mqtt/inbox.py",
        "        self.messages = [message for message in self.messages if message.qos == 0]\n",
        "",
        "tests/unit/mqtt/test_session_parts.py::test_new_connection_drops_what_the_broker_delivers_again",
    ),
    Mutant(
        "a session that ends with its connection",
        1,
        "mqtt/mqtt5.py",
        "return int(self._settings.session_expiry) if self._spec.kept else 0",
        "return 0",
        f"{MQTT5}::test_it_requests_a_persistent_bounded_session",
    ),
    Mutant(
        "forget the session at each start",
        1,
        "mqtt/mqtt5.py",
        "clean_start=not self._spec.kept",
        "clean_start=True",
        f"{MQTT5}::test_it_requests_a_persistent_bounded_session",
    ),
    Mutant(
        "unsubscribe before the new subscription",
        1,
        "mqtt/mqtt5.py",
        "        if wanted := self._subscriptions.wanted:\n",
        "        if unwanted := self._subscriptions.stale:\n            self._send_unsubscribe(connection, unwanted)\n"
        "        if wanted := self._subscriptions.wanted:\n",
        f"{MQTT5}::test_filters_are_dropped_after_the_new_ones_are_there",
    ),
    # ------------------------------------------------------------------ 2: nothing is dropped to make room
    Mutant(
        "read on while the journal is full",
        2,
        "ingest/loop.py",
        "                await self._state.journal.room()\n",
        "",
        f"{LOOP}::test_nothing_is_taken_while_the_journal_is_full",
    ),
    Mutant(
        "tell nobody that there is room",
        2,
        "state/journal.py",
        "            self._changed.notify_all()",
        "            pass",
        f"{JOURNAL}::test_full_until_there_is_room",
    ),
    Mutant(
        "let any number of messages be under way",
        2,
        "mqtt/mqtt5.py",
        "receive_max=settings.in_flight",
        "receive_max=65_535",
        f"{MQTT5}::test_it_requests_a_persistent_bounded_session",
    ),
    # ------------------------------------------------------------------ 3: an outage costs nothing but delay
    Mutant(
        "swallow a failed write",
        3,
        "stores/lane.py",
        "                parts.append(part)\n                self._note_problem(str(error))\n",
        "                self._note_problem(str(error))\n",
        f"{LANES}::test_readings_stay_in_the_journal_until_they_are_stored",
    ),
    Mutant(
        "remove from the journal before the write",
        3,
        "stores/lane.py",
        "        refused = await self._offer(lines)\n",
        "        await self._settle(entries, 0, [])\n        refused = await self._offer(lines)\n",
        f"{LANES}::test_readings_stay_in_the_journal_until_they_are_stored",
    ),
    Mutant(
        "forget to settle",
        3,
        "stores/lane.py",
        "        await self._settle(entries, len(lines) - len(refused), rejections)\n",
        "",
        f"{LANES}::test_readings_leave_the_journal_when_they_are_stored",
    ),
    Mutant(
        "skip the halving",
        3,
        "stores/lane.py",
        "                if len(part) > 1:\n",
        "                if len(part) > 10_000:\n",
        f"{LANES}::test_only_the_refused_reading_becomes_a_dead_letter",
    ),
    Mutant(
        "forget the second half",
        3,
        "stores/lane.py",
        "parts += [part[middle:], part[:middle]]",
        "parts += [part[:middle]]",
        f"{LANES}::test_only_the_refused_reading_becomes_a_dead_letter",
    ),
    Mutant(
        "no dead letter of a refused reading",
        3,
        "stores/lane.py",
        "                self._worker_state.keep_refused(connection, self._startup, rejections)\n",
        "                pass\n",
        f"{LANES}::test_only_the_refused_reading_becomes_a_dead_letter",
    ),
    Mutant(
        "believe whoever answers 400",
        3,
        "stores/influxdb_errors.py",
        "return self.status in DATA_FAULTS and (code in CODES or (code is None and error.startswith(BLAMES)))",
        "return self.status in DATA_FAULTS",
        "tests/unit/stores/test_influxdb.py::test_what_others_answer_refuses_nothing",
    ),
    Mutant(
        "commit half a batch to the SQLite store",
        3,
        "stores/sqlite_writer.py",
        'self._connection.execute("ROLLBACK")',
        'self._connection.execute("COMMIT")',
        "tests/unit/stores/test_sqlite.py::test_batch_is_written_whole_or_not_at_all",
    ),
    Mutant(
        "no fsync of the SQLite store",
        3,
        "stores/sqlite_schema.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = OFF",
        "tests/unit/stores/test_sqlite.py::test_commits_are_synced",
    ),
    Mutant(
        "two readings of one instant",
        3,
        "ingest/pipeline.py",
        "                    stamp_ns += 1\n",
        "                    pass\n",
        f"{BATCHES}::test_arrival_times_are_distinct",
    ),
    # ------------------------------------------------------------------ 4: no rejection is silent
    Mutant(
        "no dead letter of a rejected message",
        4,
        "ingest/commit.py",
        "        state.keep(connection, outcome.rejections)\n",
        "        pass\n",
        f"{LOOP}::test_a_rejected_message_is_kept_before_it_is_acknowledged",
    ),
    Mutant(
        "drop old dead letters uncounted",
        4,
        "state/dead_letters.py",
        "(startup, -len(sizes), -sum(sizes), len(sizes))",
        "(startup, -len(sizes), -sum(sizes), 0)",
        f"{LETTERS}::test_bound_of_count",
    ),
    Mutant(
        "no sample of what was over quota at the end",
        4,
        "ingest/loop.py",
        "            await self._keep_samples(at_end=True)\n",
        "",
        f"{LOOP}::test_the_last_sample_is_kept_at_the_end",
    ),
    # ------------------------------------------------------------------ 5: no startup reaches another
    Mutant(
        "take from another startup's lane",
        5,
        "state/journal.py",
        'FROM journal WHERE startup = ? ORDER BY id"',
        'FROM journal WHERE startup <= ? ORDER BY id"',
        f"{LANES}::test_each_startup_gets_its_own_readings",
    ),
    Mutant(
        "remove from another startup's lane",
        5,
        "state/journal.py",
        "DELETE FROM journal WHERE id = ?",
        "DELETE FROM journal WHERE id <= ?",
        f"{LANES}::test_a_startup_whose_store_is_away_keeps_its_readings",
    ),
    Mutant(
        "give a startup the block of another",
        5,
        "state/damaged_readings.py",
        "        at += size\n",
        "        at += 0\n",
        f"{LANES}::test_each_startup_gets_its_own_readings",
    ),
    Mutant(
        "write to one bucket for all",
        5,
        "stores/influxdb.py",
        'return self._bucket_name.replace("{startup}", startup)',
        'return self._bucket_name.replace("{startup}", "acme")',
        f"{STORES}::test_startups_never_see_each_other",
    ),
    Mutant(
        "evict another startup's dead letters",
        5,
        "state/dead_letters.py",
        "SELECT id FROM dead_letters WHERE startup = ? AND topic",
        "SELECT id FROM dead_letters WHERE ? <> '' AND topic",
        f"{LETTERS}::test_bounds_are_of_each_startup",
    ),
    Mutant(
        "a token opens every startup",
        5,
        "api/auth.py",
        "return self.startup is None or self.startup == startup",
        "return True",
        "tests/unit/api/test_access.py::test_a_token_opens_its_own_startup",
    ),
    Mutant(
        "show a dead letter of another startup",
        5,
        "api/rejections.py",
        "if found is None or found.rejection.startup != startup:",
        "if found is None:",
        "tests/unit/api/test_rejections.py::test_payload_of_another_startup_is_not_found",
    ),
    Mutant(
        "let a startup fill the journal",
        5,
        "ingest/loop.py",
        "if self._state.journal.is_full_for(startup):",
        "if self._state.journal.is_full:",
        f"{LOOP}::test_a_startup_that_has_filled_its_share_is_held_back",
    ),
    Mutant(
        "charge no message to the quota",
        5,
        "ingest/pipeline.py",
        "                meter.left -= 1\n",
        "",
        f"{BATCHES}::test_quota_of_messages",
    ),
    Mutant(
        "charge no bytes to the quota",
        5,
        "ingest/pipeline.py",
        "                meter.bytes_left -= route.topic_bytes + len(message.payload)\n",
        "",
        f"{BATCHES}::test_quota_of_bytes",
    ),
    Mutant(
        "charge an array as one message",
        5,
        "ingest/charging.py",
        "    route.meter.left -= max(0, records - 1)\n",
        "",
        f"{BATCHES}::test_arrays_use_up_the_quota",
    ),
    # ------------------------------------------------------------------ 6: the ledger balances
    Mutant(
        "count the rejected outside of the transaction",
        6,
        "ingest/commit.py",
        "        ledger.add(connection, rejected)\n",
        "        pass\n",
        f"{LOOP}::test_a_batch_is_acknowledged_when_it_is_on_disk",
    ),
    Mutant(
        "count the stored in a transaction of its own",
        6,
        "stores/lane.py",
        "                return await self._worker_state.database.write(work)\n",
        "                counts = {self._startup: Counts(stored=stored, refused=len(rejections))}\n"
        "                write = self._worker_state.database.write\n"
        "                await write(lambda connection: Journal.remove(connection, entries))\n"
        "                return await write(lambda connection: ledger.add(connection, counts))\n",
        f"{LANES}::test_the_ledger_balances_after_each_transaction",
    ),
    Mutant(
        "sort without counting",
        6,
        "state/journal.py",
        "Counts(received=count, accepted=count) for startup",
        "Counts(received=count) for startup",
        f"{JOURNAL}::test_the_intake_is_in_the_ledger",
    ),
    Mutant(
        "delete of the intake what was not sorted",
        6,
        "state/journal.py",
        'connection.execute("DELETE FROM intake WHERE id <= ?", (last_id,))',
        'connection.execute("DELETE FROM intake")',
        f"{JOURNAL}::test_a_large_intake_is_sorted_in_parts",
    ),
    Mutant(
        "let a second gateway in",
        6,
        "state/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        f"{DATABASE}::test_a_state_directory_has_one_gateway",
    ),
    Mutant(
        "forget which series a startup has used",
        6,
        "state/devices.py",
        'connection.executemany("INSERT OR IGNORE INTO series VALUES (?, ?)", rows)',
        "rows.clear()",
        "tests/unit/state/test_devices.py::test_series_are_remembered",
    ),
)
