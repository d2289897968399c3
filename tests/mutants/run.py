"""Apply a mutant to a copy of the tree, and run its test there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.builders import ROOT
from tests.mutants.mutants import Mutant

COPIED = ("gateway", "devices", "tests", "bench", "config", "scripts", "pyproject.toml")
FAILED = 1
"""Exit status of pytest where a test has failed; any other says that it could not run."""


@dataclass(frozen=True, slots=True)
class Line:
    """`killed` says that the test fails with the mutant, `passes` that it passes without."""

    mutant: Mutant
    passes: bool
    killed: bool
    said: str = ""

    @property
    def good(self) -> bool:
        return self.passes and self.killed

    def as_json(self) -> dict[str, Any]:
        mutant = self.mutant
        return {
            "mutant": mutant.name,
            "promise": mutant.promise,
            "file": f"gateway/{mutant.file}",
            "test": mutant.test,
            "passes_without": self.passes,
            "killed": self.killed,
            "good": self.good,
        }


@contextmanager
def copied() -> Iterator[Path]:
    """Copy the tree, so that nothing is changed in place."""
    with tempfile.TemporaryDirectory(prefix="gateway-mutants-") as made:
        for name in COPIED:
            source, target = ROOT / name, Path(made) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "results"))
            else:
                shutil.copy(source, target)
        yield Path(made)


def judged(mutant: Mutant, tree: Path, passed: dict[str, bool]) -> Line:
    """Run a mutant's test without and with it; `passed` remembers the tests that ran without."""
    if mutant.test not in passed:
        passed[mutant.test] = _status(tree, mutant)[0] == 0
    path = tree / "gateway" / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(mutated(mutant, text), encoding="utf-8")
    try:
        status, said = _status(tree, mutant)
    finally:
        path.write_text(text, encoding="utf-8")
    return Line(mutant, passed[mutant.test], status == FAILED, said)


def mutated(mutant: Mutant, text: str) -> str:
    """Return the text of a file with the mutant in it; ValueError unless its old text occurs exactly once."""
    if (found := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: its text occurs {found} times in gateway/{mutant.file}:\n{mutant.old}")
    return text.replace(mutant.old, mutant.new)


def _status(tree: Path, mutant: Mutant) -> tuple[int, str]:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
    env = os.environ | {"PYTHONPATH": str(tree), "CI": "true"}
    command += [f"--timeout={mutant.within}", "-o", "faulthandler_timeout=0"]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-2000:]
