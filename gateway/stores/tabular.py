"""Rows as a table, for CSV answers and exports: its columns, and cells that are safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from gateway import timestamps
from gateway.config import Startup
from gateway.stores.contract import Row, Store


async def columns(startup: Startup, store: Store, measurement: str) -> list[str]:
    """Return the columns of a measurement's table, without the time: device, tags, fields; those of the rule first."""
    stored = await store.columns(startup.slug, measurement)
    rule = startup.topics.get(measurement)
    captured = [name for name in rule.template.captures if name != "device"] if rule else []
    tags = [*captured, *(rule.tags if rule else ()), *stored.tags]
    fields = [*(rule.fields if rule else ()), *stored.fields]
    return list(dict.fromkeys(["device", *tags, *fields]))


def csv_table(rows: Iterable[Row], names: Sequence[str]) -> bytes:
    """Return rows as CSV, without a header."""
    return csv_lines(_cells(row, names) for row in rows)


def csv_lines(lines: Iterable[Iterable[object]]) -> bytes:
    """Return CSV in the form of RFC 4180, in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()


def _cells(row: Row, names: Sequence[str]) -> Iterable[object]:
    values = {**row.tags, **row.fields}
    return [timestamps.to_rfc3339(row.time_ns), *(_cell(values.get(name)) for name in names)]


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value  # a spreadsheet must not run a device's string as a formula
    return value
