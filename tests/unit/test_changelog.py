"""The changes that wait in changelog.d/ for the next release."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.servers import WITHIN

ROOT = Path(__file__).parents[2]
WAITING = sorted(file for file in (ROOT / "changelog.d").iterdir() if file.name != ".gitignore")


def test_each_change_has_a_kind() -> None:
    """A file is called after an issue, or + and any name, and a kind that CONTRIBUTING.md lists and towncrier knows."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = [kind["directory"] for kind in settings["type"]]
    described = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("The kind is")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", described) == kinds
    named = re.compile(rf"(\d+|\+[\w-]+)\.({'|'.join(kinds)})(\.\d+)?\.md")
    assert [file.name for file in WAITING if not named.fullmatch(file.name)] == []


def test_release_notes_can_be_made() -> None:
    """`towncrier build` finds the place in CHANGELOG.md, and takes every change that waits."""
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.0.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert done.returncode == 0, done.stderr
    for file in WAITING:
        assert " ".join(file.read_text(encoding="utf-8").split()) in " ".join(done.stdout.split())
    assert "<!-- releases -->\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
