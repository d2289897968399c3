"""Group commit of the state database: one transaction, and one fsync, for all work that waits. Used in the writer's
thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from gateway.errors import StateUnavailable
from gateway.state.guard import Guard

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Job(NamedTuple):
    """Work, and where its outcome goes. What `grows` the state may be rejected: see `gateway.state.guard`."""

    work: Work[Any]
    future: asyncio.Future[Any]
    grows: bool


def commit(writer: sqlite3.Connection, group: Sequence[Job], guard: Guard) -> list[Any]:
    """Run the group in one transaction; where an outcome is an exception, nothing of that job was written."""
    if all(job.work is look for job in group):
        guard.check()
        return [None] * len(group)
    refusal = guard.refusal() if any(job.grows for job in group) else None
    try:
        writer.execute("BEGIN IMMEDIATE")
        outcomes = [refusal if refusal and job.grows else _run(writer, job.work) for job in group]
        guard.count()
        writer.execute("COMMIT")
    except Exception as error:  # whatever it is: every caller gets it, and the writer continues
        with suppress(sqlite3.Error):
            if writer.in_transaction:
                writer.execute("ROLLBACK")
        guard.failed(error)
        failure = StateUnavailable(f"the gateway's state cannot be written: {error}; is the disk full?")
        return [failure] * len(group)
    for outcome in outcomes:
        guard.failed(outcome)
    if lost := guard.committed():
        return [lost if job.grows else outcome for job, outcome in zip(group, outcomes, strict=True)]
    return outcomes


def look(_connection: sqlite3.Connection) -> None:
    """Do nothing: with only this to do, the writer looks at its files and commits nothing."""


def _run(writer: sqlite3.Connection, work: Work[Any]) -> Any:
    writer.execute("SAVEPOINT job")
    try:
        outcome = work(writer)
    except Exception as error:  # its caller gets it, the rest of the group continues
        if not writer.in_transaction:
            raise
        writer.execute("ROLLBACK TO job")
        outcome = error
    writer.execute("RELEASE job")
    return outcome


def resolve(group: Sequence[Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if job.future.cancelled():
            continue
        if isinstance(outcome, sqlite3.Error):
            job.future.set_exception(StateUnavailable(f"the gateway's state cannot be written: {outcome}"))
        elif isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
