"""Every option of a rule has an effect on the fast path as on the full path, and shares no schema that it changes.

Whoever adds an option adds a line to `OPTIONS` here, or a test fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from gateway.config import FieldRule, Startup, TimeRule, TopicRule
from gateway.config.notations import Name
from gateway.ingest.outcome import Evaluation, Outcome
from gateway.ingest.pipeline import Pipeline
from gateway.payloads import FORMATS
from gateway.rules import schema, validator
from gateway.rules.finishing import Step, Values, finishing_steps
from gateway.rules.schema import WITHOUT_EFFECT, compile_schema
from gateway.timestamps import NS
from tests.builders import NOW, batch, message, outcome_of, pipeline, rule, startup
from tests.unit.payloads.pairs import Pairs

SECONDS = NOW // NS
TOPIC = "testbed/acme/th-1/climate"
RULE: Mapping[str, Any] = {
    "topic": "testbed/acme/{device}/climate",
    "payload": "json",
    "time": {"from": "/at", "unit": "s", "max_future": "1h", "max_age": "1h"},
    "seq": "/n",
    "fields": {"value": {"from": "/v", "type": "float", "unit": "celsius", "min": 0, "max": 100, "required": True}},
    "tags": {"firmware": "/fw"},
    "unknown": "reject",
    "silent_after": "15m",
}
GOOD: Mapping[str, Any] = {"v": 50, "at": SECONDS, "fw": "1"}


def sends(**change: Any) -> bytes:
    return json.dumps({**GOOD, **change}).encode()


OPTIONS: Mapping[str, tuple[Any, bytes]] = {
    "topic": ("testbed/acme/{device}/other", sends()),
    "payload": ("pairs", b"v=50 at=%d" % SECONDS),
    "time": (None, sends()),
    "time.from": ("/when", sends()),
    "time.unit": ("ms", sends()),
    "time.max_future": ("1m", sends(at=SECONDS + 120)),
    "time.max_age": ("1m", sends(at=SECONDS - 120)),
    "seq": ("/m", sends(n=1)),
    "fields": ({"other": {"from": "/v", "type": "float"}}, sends()),
    "fields.from": ("/w", sends()),
    "fields.type": ("int", sends()),
    "fields.unit": ("kelvin", sends(v=101)),
    "fields.min": (60, sends()),
    "fields.max": (40, sends()),
    "fields.required": (False, sends(v=None)),
    "tags": ({"room": "/fw"}, sends()),
    "unknown": ("drop", sends(more=1)),
    "silent_after": ("1h", sends()),
}
"""Another legal value of each option, and a payload to which it makes a difference."""
WITHOUT_AN_OUTCOME = {"silent_after"}
"""Options that change no reading: they are for people."""


def names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The options of a model, as they are written."""
    return (prefix + (field.alias or name) for name, field in model.model_fields.items())


def test_every_option_is_here() -> None:
    """The table has all options that there are, and no other."""
    assert set(OPTIONS) == {*names(TopicRule), *names(FieldRule, "fields."), *names(TimeRule, "time.")}


@pytest.fixture(autouse=True)
def _pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "pairs", Pairs())


def changed(option: str) -> dict[str, Any]:
    """The rule with another value of one option."""
    made: dict[str, Any] = json.loads(json.dumps(RULE))
    outer, _, inner = option.partition(".")
    place = {"": made, "time": made["time"], "fields": made["fields"]["value"]}[outer if inner else ""]
    place[inner or outer] = OPTIONS[option][0]
    return made


options = pytest.mark.parametrize("option", OPTIONS)


@options
def test_rules_share_no_schema_unless_it_is_the_same(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rules that differ in one option have schemas of their own, or the option is known to change nothing in it."""
    one, other = TopicRule.model_validate(RULE), TopicRule.model_validate(changed(option))
    assert (compile_schema(one) is compile_schema(other)) == (option in WITHOUT_EFFECT)
    if option in WITHOUT_EFFECT:
        monkeypatch.setattr(schema, "WITHOUT_EFFECT", set())
        alone = compile_schema(one), compile_schema(other)
        assert alone[0] is not alone[1]
        assert plain(alone[0][0].core_schema) == plain(alone[1][0].core_schema)


def plain(core_schema: object) -> str:
    """A schema without what names the very class that it was made for."""
    return re.sub(r"Record:\d+", "Record", repr(core_schema))


def acme(settings: Mapping[str, Any]) -> Startup:
    return startup("acme", {"climate": settings})


def good_first(made: Pipeline, payload: bytes) -> Outcome:
    """What becomes of a payload whose series is known already, as the fast path wants it."""
    for known in (sends(), sends(fw=None), payload):
        outcome_of(made, batch(message(known, TOPIC)))
    return outcome_of(made, batch(message(payload, TOPIC)))


def as_outcome(evaluation: Evaluation) -> Outcome:
    outcome = Outcome()
    outcome.add(evaluation)
    return outcome


@options
def test_an_option_counts_on_both_paths(option: str) -> None:
    """Another value of an option changes what becomes of some message, the same on the fast path and the full path."""
    payload = OPTIONS[option][1]
    outcomes = []
    for settings in (RULE, changed(option)):
        made = pipeline(acme(settings))
        outcome = good_first(made, payload)
        stamp_ns = outcome.rejections[0].arrived_ns if outcome.rejections else NOW + 3
        whole = as_outcome(made.evaluate(message(payload, TOPIC), stamp_ns))
        assert settled(outcome) == settled(whole)
        outcomes.append(settled(outcome))
    assert (outcomes[0] == outcomes[1]) == (option in WITHOUT_AN_OUTCOME)


def settled(outcome: Outcome) -> str:
    """An outcome without the times of arrival, which count up."""
    return re.sub(rf"{NOW // 1000}\d\d\d(?!\d)", "NOW", repr(outcome))


# ------------------------------------------------------------------ controls: an option that is added


class ScaledField(FieldRule):
    """A field with an option that the gateway does not have."""

    scale: float = 1.0


class ScaledRule(TopicRule):
    fields: Annotated[dict[Name, ScaledField], Field(min_length=1)]  # type: ignore[assignment]


def scaled(scale: float) -> ScaledRule:
    fields = {"value": {"type": "float", "scale": scale}}
    return ScaledRule.model_validate({"topic": "testbed/acme/{device}/climate", "fields": fields})


def test_an_added_option_shares_no_schema() -> None:
    """Rules that differ in an option that nobody has thought of when the cache was written have their own schemas."""
    assert compile_schema(scaled(1)) is compile_schema(scaled(1))
    assert compile_schema(scaled(1)) is not compile_schema(scaled(10))


def test_an_added_step_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is added for an option is taken on both paths, also for a rule that is plain without it."""

    class Scale(Step):
        def apply(self, values: Values, now_ns: int) -> bool:
            values.fields = {name: 10.0 * float(value) for name, value in values.fields.items()}
            return True

    assert validator.Validator(rule()).is_plain
    monkeypatch.setattr(validator, "finishing_steps", lambda made: (*finishing_steps(made), Scale()))
    assert not validator.Validator(rule()).is_plain
    made = pipeline()
    for _ in range(2):
        (reading,) = outcome_of(made, batch(message('{"value": 2}'))).readings["acme"]
        assert reading.fields == {"value": 20.0}
    array = outcome_of(made, batch(message('[{"value": 2}, {"value": "x"}]')))
    assert [one.fields for one in array.readings["acme"]] == [{"value": 20.0}]
