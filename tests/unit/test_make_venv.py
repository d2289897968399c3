"""scripts/make-venv on machines that lack something: a fresh Debian above all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import WITHIN

SCRIPT = Path(__file__).parents[2] / "scripts" / "make-venv"
NEEDED = ("cat", "grep", "id")

# A Python that answers questions, and fails to make an environment: no test installs anything.
PYTHON = f"""#!/bin/sh
case "$*" in
*"import ensurepip"*) exit ${{NO_VENV:-0}} ;;
"-m venv"*) echo "the venv module of ${{0##*/}}"; exit 7 ;;
*) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH without Python and without apt-get."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name) or name)
    return programs


def add_python(path: Path, name: str) -> None:
    (path / name).write_text(PYTHON)
    (path / name).chmod(0o755)


def make_venv(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script, which must leave standard output to the command that needed the environment."""
    done = subprocess.run(
        [SCRIPT, path.parent / "venv", "requirements/demo.txt"],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert done.stdout == ""
    return done


def test_missing_python_is_reported_with_the_remedy(path: Path) -> None:
    """Without any Python the message says which is required, and which packages of Debian bring it."""
    done = make_venv(path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Python 3.11 or newer is required; python3 is missing.",
        "On Debian 12 or Ubuntu 24.04: apt install python3 python3-venv",
        "Elsewhere, or with another Python: make PYTHON=/path/to/python3 ...",
    ]


@pytest.mark.parametrize("name", ["python3", "python3.11", "python3.12", "python3.13"])
def test_any_python_that_is_new_enough_is_taken(path: Path, name: str) -> None:
    """Debian's package python3.11 brings no `python3`: a name with a version will do."""
    add_python(path, name)
    done = make_venv(path)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == f"the venv module of {name}"


def test_a_requested_python_is_the_only_one_tried(path: Path) -> None:
    """A wrong PYTHON is reported; no other is taken in its place."""
    add_python(path, "python3")
    done = make_venv(path, PYTHON="python3.99")
    assert done.returncode == 1
    assert "python3.99 is missing" in done.stderr


def test_missing_venv_module_is_reported_with_the_remedy(path: Path) -> None:
    """Where it cannot be installed, the message names Debian's package."""
    add_python(path, "python3")
    done = make_venv(path, NO_VENV="1")
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
