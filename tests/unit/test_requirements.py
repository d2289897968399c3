"""The lock files of requirements/ hold what pyproject.toml declares."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[Any]] = PROJECT["dependency-groups"]
OF_FILE = {
    "dev": (tuple(EXTRAS), "dev"),
    "demo": (("console", "demo", "devices"), "build"),
    "image": (("console", "devices", "provision"), "build"),
    "lowest": (tuple(EXTRAS), "dev"),
}


def locked(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, Version]:
    """The packages of a lock file; the newest where two Pythons need two versions."""
    found: dict[str, Version] = {}
    for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", locked(name), re.MULTILINE):
        found[package] = max(Version(version), found.get(package, Version("0")))
    return found


def declared(extras: Iterable[str], group: str = "") -> list[Requirement]:
    groups = [group] if group else []
    named = []
    for one in groups:
        groups += [entry["include-group"] for entry in GROUPS[one] if isinstance(entry, dict)]
        named += [entry for entry in GROUPS[one] if isinstance(entry, str)]
    several = [*DEPENDENCIES, *(line for extra in extras for line in EXTRAS[extra]), *named]
    return [Requirement(line) for line in several]


@pytest.mark.parametrize("name", OF_FILE)
def test_lock_file_satisfies_pyproject(name: str) -> None:
    """Each declared package is locked, at a version that pyproject.toml allows; if not: make lock."""
    found = pins(name)
    for requirement in declared(*OF_FILE[name]):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is missing from requirements/{name}.txt"
        assert version in requirement.specifier, requirement


def test_lowest_versions_are_the_ones_that_pyproject_claims() -> None:
    """`make test-lowest` runs with each lower bound itself, so that a claim is never lower than what was tested."""
    found = pins("lowest")
    for requirement in declared(EXTRAS):
        lower = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        assert lower == [found[canonicalize_name(requirement.name)]], requirement


@pytest.mark.parametrize("name", ["demo", "image", "uv"])
def test_parts_have_the_versions_that_the_tests_run_with(name: str) -> None:
    """What the demo, the image and the installer get is what dev.txt has."""
    assert pins(name).items() <= pins("dev").items()


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").iterdir()), ids=lambda file: file.name)
def test_lock_file_names_hashes_and_no_host(file: Path) -> None:
    """Every package has the hashes of its files; where they come from is for the machine to say."""
    text = file.read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert packages
    assert [package.splitlines()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option, or a file of one machine"
