"""The list of the mutants is true: each can be applied, its test exists, and the documentation has it."""

from __future__ import annotations

import ast

import pytest

from tests.builders import ROOT
from tests.mutants.mutants import MUTANTS, Mutant
from tests.mutants.run import mutated
from tests.mutants.table import GUARANTEES, with_table


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name.replace(" ", "-"))
def test_a_mutant_can_be_applied(mutant: Mutant) -> None:
    """Its text occurs exactly once in its file, which is still Python with the change."""
    text = (ROOT / "gateway" / mutant.file).read_text(encoding="utf-8")
    changed = mutated(mutant, text)
    assert changed != text
    ast.parse(changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name.replace(" ", "-"))
def test_the_test_of_a_mutant_exists(mutant: Mutant) -> None:
    """The file has a test function of that name."""
    file, _, name = mutant.test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name.partition("[")[0] in functions


def test_names_are_distinct() -> None:
    """There are at least 25, each with a name of its own."""
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 25


def test_the_documentation_has_the_table() -> None:
    """docs/guarantees.md lists exactly these mutants; `make mutants ARGS=--write` makes it so."""
    text = GUARANTEES.read_text(encoding="utf-8")
    assert text == with_table(text)
