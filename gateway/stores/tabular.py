"""Rows as a table, for CSV answers and exports: its columns, and cells that are safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
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
    """Return CSV in the form of RFC 4180, in UTF-8, in which no text is a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in line] for line in lines)
    return text.getvalue().encode()


def _cells(row: Row, names: Sequence[str]) -> Iterable[object]:
    values = {**row.tags, **row.fields}
    return [timestamps.to_rfc3339(row.time_ns), *(values.get(name) for name in names)]


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return harmless(value) if isinstance(value, str) else value


def harmless(text: str) -> str:
    """Return a text in which a spreadsheet finds no formula: an apostrophe stands before what would begin one.

    A program that takes another sign for the separator begins cells within the text, and so may one that reads a
    newline as the end of a row. Texts that are numbers stay as they are.
    """
    return _FORMULA.sub(r"\g<0>'", text)


_FORMULA = re.compile(
    r"""                                     # nothing here is tried twice: a device chooses the text
    ^ (?=[\t\r])
  | (?:^|[;,|\t\r\n]) [ "']*?             # where a cell may begin: spaces and quotes are skipped
    (?= [=@\uff1d\uff0b\uff0d\uff20]      # the full-width forms too, which some take for the same
      | [-+] (?! [0-9]+ (?:\.[0-9]+)? (?:[eE][-+]?[0-9]+)? [ ]* (?:$|[;,|\t\r\n]) ) )
    """,
    re.VERBOSE,
)
