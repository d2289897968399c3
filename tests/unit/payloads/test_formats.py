"""What every payload format keeps to, and how a format is found, named and rejected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import payloads
from gateway.config import StartupFile, TopicRule, load
from gateway.errors import ConfigInvalid
from gateway.model import Reason
from gateway.payloads import FORMATS, Records
from gateway.rules.reader import Reader
from tests.builders import NOW, ROOT, STARTUP, batch, message, outcome_of, pipeline, rule, startup, write_config
from tests.unit.config.json_schema import complaints
from tests.unit.payloads.pairs import Pairs

formats = pytest.mark.parametrize("name", FORMATS)


def of(name: str, kind: str = "float") -> TopicRule:
    """A rule of a format; its field stands where every format can have one."""
    return rule({"value": {"type": kind}}, payload=name)


def test_a_format_is_its_file() -> None:
    """The known formats are the files of the package, by name: there is no list to forget."""
    package = Path(payloads.__path__[0])
    assert list(FORMATS) == sorted(path.stem.removesuffix("_format") for path in package.glob("*_format.py"))
    assert "json" in FORMATS


def test_unknown_format(tmp_path: Path) -> None:
    """A format that nobody knows is reported on its line, with those that there are."""
    wrong = STARTUP.replace("    fields:", "    payload: xml\n    fields:")
    with pytest.raises(ConfigInvalid) as error:
        load(write_config(tmp_path, acme=wrong))
    (problem,) = error.value.problems
    assert (problem.line, problem.where, problem.got) == (5, "topics.climate.payload", "'xml'")
    assert problem.expected == f"a payload format: {', '.join(FORMATS)}"


@formats
def test_the_json_schema_has_the_format(name: str) -> None:
    """`gateway schema` lists every format, so that an editor offers it, and no other."""
    topics = {"climate": {"topic": "testbed/acme/{device}/x", "payload": name, "fields": {"value": {"type": "float"}}}}
    startup_schema = StartupFile.model_json_schema()
    assert complaints(startup_schema, {"name": "A", "topics": topics}) == []
    topics["climate"]["payload"] = f"{name}x"
    assert complaints(startup_schema, {"name": "A", "topics": topics}) != []


def test_every_format_is_in_the_reference() -> None:
    """docs/payload-formats.md has a section for each format, and for no other."""
    reference = (ROOT / "docs" / "payload-formats.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `(\w+)`$", reference, re.MULTILINE) == list(FORMATS)


@formats
@pytest.mark.parametrize("kind", ["float", "int", "bool", "string"])
@given(payload=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes(name: str, kind: str, payload: bytes) -> None:
    """Any bytes become records or a reason, and the fast decoder takes no more and no less than the full path."""
    made = of(name, kind)
    found = made.format.records(payload, made.context)
    assert isinstance(found, Records | Reason)
    reader = Reader(made)
    good, explained = reader.read_good(payload, NOW), reader.explain(payload, NOW)
    if good is None:
        assert isinstance(explained, Reason) or any(isinstance(one, list) for one in explained)
    else:
        assert repr(good) == repr(explained)


@formats
@pytest.mark.parametrize(
    ("kind", "value"),
    [("float", 21.5), ("float", 1e-7), ("int", -3), ("bool", True), ("string", "a b"), ("string", "5")],
)
def test_an_example_is_read_back(name: str, kind: str, value: object) -> None:
    """The example that a format writes for people is a payload that it reads."""
    made = of(name, kind)
    assert [one.fields for one in Reader(made).read_good(made.format.write({"value": value}).encode(), NOW) or ()] == [
        {"value": value}
    ]


# ------------------------------------------------------------------ a format that lives in the tests


def test_a_registered_format_needs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A format that is known by name is decoded, validated and explained like any other."""
    monkeypatch.setitem(FORMATS, "pairs", Pairs())
    fields = {"t": {"type": "float", "max": 50}, "fw": {"type": "string", "required": False}}
    topics = {"climate": {"topic": "testbed/acme/{device}/climate", "payload": "pairs", "fields": fields}}
    made = pipeline(startup("acme", topics))
    outcome = outcome_of(
        made, batch(message("t=1"), message("t=2 fw=1.2"), message("t=3\nt=x\nt=4"), message(""), message("t=51"))
    )
    assert [reading.fields for reading in outcome.readings["acme"]] == [
        {"t": 1.0},
        {"t": 2.0, "fw": "1.2"},
        {"t": 3.0},
        {"t": 4.0},
    ]
    assert [str(reason) for one in outcome.rejections for reason in one.reasons] == [
        '/1/t: expected a number of at most 50; got "x"',
        "payload: expected pairs; got an empty payload",
        "/t: expected a number of at most 50; got 51.0",
    ]
