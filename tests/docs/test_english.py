"""Texts for people are plain English: a few phrases that crept in before are caught here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for room in ("gateway", "devices") for path in (ROOT / room).rglob("*.py"))
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]

NOT_A_VERB = {"A", "All", "An", "Each", "Every", "How", "It", "Of", "The", "This", "What", "When", "Where", "Whether",
              "Which", "Who", "Whose", "Why"}  # fmt: skip
AVOIDED = re.compile(r"\b(told|of which|be it)\b|\b(is|are|was) told\b", re.IGNORECASE)
"""Where a technical editor would write "reported", "shown" or "explained"."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function that is not a property: a property is named like a value, and documented like one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
            if not decorators & {"property", "setter"}:
                yield node


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_docstrings_of_functions_open_with_a_verb(path: Path) -> None:
    """A function's docstring says what to expect of a call, as a command: "Return …", "Raise …"."""
    opened = {
        node.name: found.split(maxsplit=1)[0]
        for node in functions(ast.parse(path.read_text(encoding="utf-8")))
        if (found := ast.get_docstring(node))
    }
    assert {name: word for name, word in opened.items() if word in NOT_A_VERB or word.endswith("s:")} == {}


@pytest.mark.parametrize("path", [*MODULES, *PAGES], ids=name)
def test_words_are_those_of_the_field(path: Path) -> None:
    """Nothing is "told": it is reported, shown, returned or explained."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if AVOIDED.search(line)] == []
