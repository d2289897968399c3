"""Comparison of the output that a document shows with the output that was printed.

Times, ids of events and times in ns match each other, whatever they are; so do the rules of tables, however long. `…`
stands for anything within a line, and alone on a line for any lines. In JSON the text "…" stands for any value, and for
all further items of an array.
"""

from __future__ import annotations

import json
import re
from typing import Any

ANYTHING = "…"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
_VARYING = re.compile(rf"(?P<time>{_TIME})|(?P<number>\b\d{{16,19}}\b)|(?P<rule>─+)|(?P<any>{ANYTHING})")
_PATTERNS = {"time": _TIME, "number": r"\d{16,19}", "rule": "─+", "any": ".*"}


def plain(text: str) -> str:
    """Return a text without colours, blanks at the ends of lines, and empty lines around it."""
    return "\n".join(line.rstrip() for line in _ANSI.sub("", text).splitlines()).strip("\n")


def prints(expected: str, actual: str, language: str = "text") -> bool:
    """Return whether `actual` is what `expected` says."""
    if language == "json":
        try:
            return same(json.loads(expected), json.loads(actual))
        except ValueError:
            return False
    lines = [r"(?:.*\n)*?" if line.strip() == ANYTHING else _line(line) + r"\n" for line in plain(expected).split("\n")]
    return re.fullmatch("".join(lines), plain(actual) + "\n") is not None


def same(expected: Any, actual: Any) -> bool:
    """Return whether two values of JSON are the same, as this module understands it."""
    if expected == ANYTHING:
        return True
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        if expected[-1:] == [ANYTHING]:
            expected, actual = expected[:-1], actual[: len(expected) - 1]
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, str) and isinstance(actual, str):
        return re.fullmatch(_line(expected), actual) is not None
    return bool(expected == actual)


def _line(text: str) -> str:
    """Return a pattern for one line."""
    parts = []
    end = 0
    for match in _VARYING.finditer(text):
        parts += [re.escape(text[end : match.start()]), _PATTERNS[match.lastgroup or ""]]
        end = match.end()
    return "".join([*parts, re.escape(text[end:])])
