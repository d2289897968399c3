"""An outcome -> the state database: all that a round became, in the transaction after which it is acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from gateway.ingest.outcome import Outcome
from gateway.state import field_types, ledger, sequences
from gateway.state.devices import DeviceRegistry
from gateway.state.journal import Block, Journal
from gateway.state.sequences import Row
from gateway.state.worker_state import WorkerState

Blocks = Mapping[str, Block]


def blocks_of(outcome: Outcome) -> Blocks:
    """Return the readings for the journal, by startup."""
    return {startup: Block.of(lines) for startup, lines in outcome.lines.items()}


def write(
    state: WorkerState, outcome: Outcome, blocks: Blocks, numbers: Sequence[Row], connection: sqlite3.Connection
) -> None:
    """Write everything; runs inside `Database.write`. `numbers` are the sequences that have changed."""
    if blocks:
        Journal.append(connection, blocks)
    if numbers:
        sequences.save(connection, numbers)
    if outcome.rejections:
        state.keep(connection, outcome.rejections)
    if rejected := outcome.rejected():
        ledger.add(connection, rejected)
    if outcome.series:
        DeviceRegistry.keep_series(connection, outcome.series)
    if outcome.types:
        field_types.keep(connection, outcome.types)
    if outcome.waiting:
        field_types.put(connection, outcome.waiting)
    if outcome.decided:
        field_types.remove(connection, outcome.decided)
