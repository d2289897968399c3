"""CSV that spreadsheet programs open: texts of devices are never run, and numbers stay numbers."""

from __future__ import annotations

import csv
import io

import pytest

from gateway.stores.contract import Row
from gateway.stores.tabular import csv_lines, csv_table, harmless


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3+cmd", "'-2+3+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("  =1", "  '=1"),
        ('"=1', "\"'=1"),
        ("'=1", "''=1"),
        ("\uff1dcmd", "'\uff1dcmd"),
        ("a;=1+1", "a;'=1+1"),
        ("a,=1+1", "a,'=1+1"),
        ("a|=1+1", "a|'=1+1"),
        ("a\n=1+1", "a\n'=1+1"),
        ("a\r\n@x", "a\r\n'@x"),
        ("a\t-x", "a\t'-x"),
        ('a;"=1', "a;\"'=1"),
        ("a; =1", "a; '=1"),
        ("-5;=1", "-5;'=1"),
    ],
)
def test_a_formula_is_defused(text: str, safe: str) -> None:
    """At the start of a cell, and wherever a program may take the text apart."""
    assert harmless(text) == safe
    (row,) = csv.reader(io.StringIO(csv_lines([[text]]).decode(), newline=""))
    assert row == [safe]


@pytest.mark.parametrize(
    "text", ["", "ok", "a=b", "a-b", "th-1", "x@example.org", "-5", "+1.5", "-1e-7", "1-2", "-5;-6", "a, b", "21 °C"]
)
def test_other_texts_stay(text: str) -> None:
    """A sign inside a text, and a text that is a number, begin no formula."""
    assert harmless(text) == text


@pytest.mark.parametrize("part", ["\t", " ", "\"'", ";", "; ", "-1", ";-1 ", "\n", "1"])
def test_no_text_takes_long(part: str) -> None:
    """A device chooses it: the time grows with its length, not with the square of that."""
    text = ";-" + part * (2_000_000 // len(part))
    assert len(harmless(text)) >= len(text)


def test_numbers_stay_numbers() -> None:
    """Negative ones too."""
    row = Row(0, {}, {"a": -5, "b": -1.5e-7, "c": True, "d": "=x"})
    assert csv_table([row], ["a", "b", "c", "d"]) == b"1970-01-01T00:00:00Z,-5,-1.5e-07,true,'=x\r\n"


def test_names_of_columns_are_no_formulas_either() -> None:
    """A tag may have any name."""
    assert csv_lines([["time", "=tag"]]) == b"time,'=tag\r\n"
