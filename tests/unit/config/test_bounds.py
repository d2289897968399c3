"""Files that are small on disk and large in memory, or take long to read: rejected at once, with file and line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.positions import MAX_BYTES, MAX_DEPTH, MAX_TOKENS
from gateway.errors import ConfigInvalid

MEMORY = 60_000_000


def bomb(inner: str, outer: Callable[[str], str]) -> str:
    """Return aliases that double, or more, in each of 60 lines."""
    lines = [f"a0: &a0 {inner}"]
    lines += [f"a{place}: &a{place} {outer(f'*a{place - 1}')}" for place in range(1, 60)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "got"),
    [
        (bomb("[1, 1]", lambda last: f"[{', '.join([last] * 10)}]"), 6, "aliases that stand for more than"),
        (bomb("{x: 1}", lambda last: f"{{p: {last}, q: {last}}}"), 16, "aliases that stand for more than"),
        (bomb("{x: 1}", lambda last: f"{{<<: [{last}, {last}]}}"), 16, "aliases that stand for more than"),
        (
            "a0: &a0 [1]\n" + "".join(f"a{one}: &a{one} [*a{one - 1}]\n" for one in range(1, 440)),
            100,
            "aliases nested too deeply",
        ),
        ("\na: &a\n  b: {c: *a}", 3, "an alias inside what it stands for"),
        ("a: &a [*a]", 1, "an alias inside what it stands for"),
        ("\na: " + "[" * 100_000, 2, f"more than {MAX_DEPTH} levels of brackets"),
        ("\na: " + "{b: " * 100_000, 2, f"more than {MAX_DEPTH} levels of brackets"),
        ("\n".join(" " * depth + "a:" for depth in range(300)), 50, f"more than {MAX_DEPTH} levels of indentation"),
        ("- " * 100_000, 1, f"more than {MAX_DEPTH} levels of indentation"),
        ("a:\n  [" + "1," * MAX_TOKENS + "]", 2, f"more than {MAX_TOKENS:,} signs and values"),
    ],
    ids=[
        "lists",
        "maps",
        "merges",
        "chain",
        "cycle",
        "cycle of lists",
        "brackets",
        "braces",
        "levels",
        "dashes",
        "values",
    ],
)
def test_a_bomb_is_a_problem_with_its_line(tmp_path: Path, text: str, line: int, got: str) -> None:
    """In bounded memory."""
    (tmp_path / "startups").mkdir()
    path = tmp_path / "startups" / "acme.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigInvalid) as raised:
            load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    (problem,) = [one for one in raised.value.problems if one.file == str(path)]
    assert abs(problem.line - line) <= 2
    assert got in problem.got


def test_gateway_yaml_has_the_same_bounds(tmp_path: Path) -> None:
    """And so has every other file of the directory."""
    path = tmp_path / "gateway.yaml"
    path.write_text("a: &a [*a]")
    with pytest.raises(ConfigInvalid) as raised:
        load(tmp_path)
    assert raised.value.problems[0].file == str(path)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """Its size is enough."""
    (tmp_path / "startups").mkdir()
    with (tmp_path / "startups" / "acme.yaml").open("wb") as file:
        file.truncate(10_000 * MAX_BYTES)  # it takes no room on the disk
    with pytest.raises(ConfigInvalid) as raised:
        load(tmp_path)
    assert f"at most {MAX_BYTES:,} bytes" in str(raised.value)


@pytest.mark.parametrize("value", ["0x" + "f" * 50_000, "1" * 4000, "1" * 50_000, "!foo x", "!!set {a, b}", "1e99999"])
@pytest.mark.parametrize(
    "setting", ["quota: {messages: VALUE}", "quota: {burst: VALUE}", "devices: [VALUE]", "VALUE: 1"]
)
def test_an_odd_value_is_a_problem(tmp_path: Path, setting: str, value: str) -> None:
    """Never an error of its own."""
    (tmp_path / "startups").mkdir()
    (tmp_path / "startups" / "acme.yaml").write_text(setting.replace("VALUE", value))
    with pytest.raises(ConfigInvalid) as raised:
        load(tmp_path)
    assert len(str(raised.value)) < 10_000


def test_aliases_that_help_are_read(tmp_path: Path) -> None:
    """Anchors and merges are how a configuration avoids repetition."""
    (tmp_path / "startups").mkdir()
    (tmp_path / "startups" / "acme.yaml").write_text(
        """
name: Acme
topics:
  a: &rule {topic: "testbed/acme/{device}/a", fields: &fields {x: &float {type: float}, y: *float}}
  b: {<<: *rule, topic: "testbed/acme/{device}/b"}
"""
    )
    (startup,) = load(tmp_path).startups
    assert set(startup.topics["b"].fields) == {"x", "y"}
