"""The fast path of the pipeline and the full path are one: whatever comes, whatever quota is left.

Each scenario goes through two pipelines. One is as the gateway has it; the other never takes the fast path. Both are
metered, so that every quota decides in both.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from gateway.config import Config
from gateway.ingest import pipeline as pipeline_module
from gateway.ingest.outcome import Outcome
from gateway.ingest.pipeline import Pipeline, unused
from gateway.ingest.quota import QuotaMeter
from gateway.ingest.topic_routes import Rule
from gateway.model import Batch, Message
from gateway.timestamps import NS
from tests.builders import config, outcome_of, startup

MIDNIGHT = 1_795_046_400 * NS
"""The end of 2026-11-18: the programme of acme is over then."""
LIMIT = 64
PLAIN = {"fields": {"value": {"type": "float", "max": 100}}}
FINISHED = {
    "fields": {"value": {"type": "float"}, "mode": {"type": "string", "required": False}},
    "time": {"from": "/at", "unit": "s", "max_age": "2s", "max_future": "2s"},
    "tags": {"room": "/room"},
}
QUOTA = {"messages": "2/s", "burst": 4, "devices": 2, "series": 4, "payload": f"{LIMIT}B"}


def rules(slug: str) -> dict[str, Any]:
    return {
        "plain": {"topic": f"testbed/{slug}/{{device}}/plain", **PLAIN},
        "finished": {"topic": f"testbed/{slug}/{{device}}/finished", **FINISHED},
    }


CONFIG = config(
    startup("acme", rules("acme"), until="2026-11-18", quota=QUOTA), startup("beta", rules("beta"), quota=QUOTA)
)

topics = st.builds(
    "testbed/{}/{}/{}".format,
    st.sampled_from(["acme"] * 6 + ["beta"] * 2 + ["gamma"]),
    st.sampled_from(["a"] * 6 + ["b", "c", "not legal"]),
    st.sampled_from(["plain", "plain", "finished"]),
)
moments = st.integers(-3, 3).map(lambda seconds: MIDNIGHT // NS + seconds)
plain_payloads = st.sampled_from(
    ['{"value": 1}'] * 5
    + ['{"value": 2.5}', ' {"value": 3}', '[{"value": 4}]', '[{"value": 5}, {"value": 6}, {}]']
    + ['{"value": 101}', '{"value": "x"}', "{", "", "5"]
)
finished_payloads = st.builds(
    '{{"value": 1, "at": {}{}}}'.format,
    moments,
    st.sampled_from(["", ', "room": "x"', ', "room": 1', ', "room": []', ', "mode": null', ', "mode": "m"']),
)
payloads = st.builds(
    lambda payload, size: payload.encode().ljust(size),
    plain_payloads | finished_payloads,
    st.sampled_from([0, 0, 0, LIMIT, LIMIT + 1]),
)
messages = st.builds(
    lambda topic, payload, retain: Message(topic, payload, retain=retain),
    topics,
    payloads,
    st.sampled_from([False, False, False, True]),
)
scenarios = st.lists(
    st.tuples(st.sampled_from([NS // 2, NS, 3 * NS]), st.lists(messages, min_size=1, max_size=20)), max_size=6
).map(lambda batches: tuple(at_moments(batches)))
Scenario = Sequence[Batch]


def at_moments(batches: Sequence[tuple[int, list[Message]]]) -> list[Batch]:
    """The batches one after the other, beginning some seconds before midnight."""
    now_ns = MIDNIGHT - 3 * NS
    made = []
    for pause_ns, inside in batches:
        now_ns += pause_ns
        made.append(Batch(inside, now_ns))
    return made


def by_batches(config: Config, scenario: Scenario) -> tuple[list[Outcome], dict[str, QuotaMeter]]:
    """What the gateway makes of them."""
    meters = unused(config.startups)
    pipeline = Pipeline(config, meters)
    return [outcome_of(pipeline, batch) for batch in scenario], meters


def by_messages(config: Config, scenario: Scenario) -> tuple[list[Outcome], dict[str, QuotaMeter]]:
    """What the full path makes of each message."""
    with patch.object(pipeline_module, "fast_path", lambda *_: False):
        return by_batches(config, scenario)


def plain(outcomes: list[Outcome]) -> list[Any]:
    """The same in a form that distinguishes 1, 1.0 and True, and in which the order of startups does not matter."""
    return [
        (sorted(map(repr, one.readings.items())), sorted(one.lines.items()), repr(one.rejections), one.unread)
        for one in outcomes
    ]


def use(meters: dict[str, QuotaMeter]) -> list[Any]:
    """Everything that is used up."""
    return [
        (slug, one.left, one.bytes_left, one.devices, one.series, one.take_new_series()) for slug, one in meters.items()
    ]


def differs(scenario: Scenario) -> bool:
    """Whether both paths come to different ends, or one of them breaks."""
    whole, used = by_messages(CONFIG, scenario)
    try:
        fast, used_fast = by_batches(CONFIG, scenario)
    except Exception:
        return True
    return (plain(fast), use(used_fast)) != (plain(whole), use(used))


@settings(max_examples=300)
@given(scenario=scenarios)
def test_both_paths_come_to_the_same_end(scenario: Scenario) -> None:
    """Readings, lines, rejections and the quota that is left are the same by batches and message by message."""
    fast, used_fast = by_batches(CONFIG, scenario)
    whole, used = by_messages(CONFIG, scenario)
    assert plain(fast) == plain(whole)
    assert use(used_fast) == use(used)


# ------------------------------------------------------------------ controls: what the test above would find


def found() -> bool:
    """Whether there is a scenario that both paths do not agree on."""
    many = settings(max_examples=3000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    return bool(find(scenarios, differs, settings=many))


FAST_PATH = ast.parse(textwrap.dedent(inspect.getsource(pipeline_module.fast_path)))  # mutants are made of its source
EXITS = [
    ast.unparse(check)
    for node in ast.walk(FAST_PATH)
    if isinstance(node, ast.If) and ast.unparse(node.body[0]) == "return False"
    for check in (node.test.values if isinstance(node.test, ast.BoolOp) else [node.test])
]
SPARING = {"payload[:1] != rule.begins and rule.begins"}
"""Exits that only spare a decoding: without them a later one is taken."""


def never_takes(exit_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fast path one that never leaves by this exit."""

    class Never(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.If:
            if isinstance(node.test, ast.BoolOp):
                node.test.values = [
                    ast.Constant(False) if ast.unparse(one) == exit_ else one for one in node.test.values
                ]
            elif ast.unparse(node.test) == exit_:
                node.test = ast.Constant(False)
            self.generic_visit(node)
            return node

    scope = dict(vars(pipeline_module))
    tree = ast.fix_missing_locations(Never().visit(ast.parse(ast.unparse(FAST_PATH))))
    exec(compile(tree, "<mutant>", "exec"), scope)
    monkeypatch.setattr(pipeline_module, "fast_path", scope["fast_path"])


@pytest.mark.parametrize("exit_", [one for one in EXITS if one not in SPARING])
def test_an_exit_that_the_fast_path_lacks_is_found(exit_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one of the checks that send a message the full path, both paths differ."""
    never_takes(exit_, monkeypatch)
    assert found()


def test_a_finish_that_the_fast_path_skips_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast path that takes every rule for a plain one comes to another end."""
    make = Rule.of

    def taken_for_plain(*arguments: Any) -> Rule:
        rule = make(*arguments)
        rule.is_plain = True
        return rule

    monkeypatch.setattr(Rule, "of", taken_for_plain)
    assert found()
