"""Values remembered by keys that devices choose: bounded in bytes, each startup's at its own expense."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from gateway.ingest import remembered
from gateway.ingest.remembered import Remembered
from gateway.line_protocol import FieldWriter
from tests.builders import NOW, message, pipeline, startup

MIB = 1 << 20
RULE = {"topic": "testbed/acme/{device}/{room}/climate", "fields": {"value": {"type": "float"}}}


@contextmanager
def grows_less_than(size: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        assert tracemalloc.get_traced_memory()[0] - before < size
    finally:
        tracemalloc.stop()


def test_invented_topics_push_out_nobody_elses() -> None:
    """However many topics one startup invents, the others' routes stay, and the memory stays within its bound."""
    made = pipeline(startup("acme", {"climate": RULE}, quota={"series": 500}), startup("beta"))
    theirs = made.route("testbed/beta/th-1/climate")
    with grows_less_than(2 * MIB):
        for i in range(10_000):
            made.route(f"testbed/acme/th-{i}/{'x' * 300}/climate")
    assert made.route("testbed/beta/th-1/climate") is theirs


def test_topics_of_all_series_of_a_quota_are_remembered() -> None:
    """A startup that uses all of its quota finds each of its topics again."""
    made = pipeline(startup("acme", {"climate": RULE}, quota={"series": 300}))
    topics = [f"testbed/acme/thermometer-{i}/{'long name of a room' * 5}/climate" for i in range(300)]
    found = [made.route(topic) for topic in topics]
    assert all(made.route(topic) is route for topic, route in zip(topics, found, strict=True))


def test_whoever_has_the_most_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all together have too much, it is the largest that forgets, whoever adds something."""
    monkeypatch.setattr(remembered, "IN_ALL", 1000)
    one: Remembered[int] = Remembered(lambda _owner: 10_000)
    for i in range(90):
        one.add("acme", f"a{i}", i, 10)
    for i in range(30):
        one.add("beta", f"b{i}", i, 10)
    assert [key for key in one.by_key if key.startswith("b")] == [f"b{i}" for i in range(30)]
    assert "a0" not in one.by_key
    assert one.by_key["a89"] == 89


def test_value_larger_than_the_bound_is_not_remembered() -> None:
    """Nothing is forgotten for it either."""
    one: Remembered[int] = Remembered(lambda _owner: 100)
    one.add("acme", "a", 1, 60)
    one.add("acme", "b", 2, 101)
    assert one.by_key == {"a": 1}


def test_invented_tags_leave_nothing_behind() -> None:
    """Tags of payloads are remembered only within the quota of series, and those of a known series stay."""
    rule = {"topic": "testbed/acme/{device}/climate", "fields": {"value": {"type": "float"}}, "tags": {"fw": "/fw"}}
    made = pipeline(startup("acme", {"climate": rule}, quota={"series": 10}))
    numbers = count()

    def accepted() -> bool:
        payload = f'{{"value": 1, "fw": "{next(numbers)}{"x" * 400}"}}'
        return bool(made.evaluate(message(payload), NOW).readings)

    assert [accepted() for _ in range(20)] == [True] * 10 + [False] * 10
    with grows_less_than(MIB):
        assert not any(accepted() for _ in range(5000))


def test_formats_of_many_sets_of_names_are_bounded() -> None:
    """A device that sends other members with each message does not fill the memory, and each line is right."""
    write = FieldWriter({})
    with grows_less_than(MIB):
        for i in range(1000):
            fields = {f"member_{i}_{j}": 1.0 for j in range(100)}
            assert write(fields) == ",".join(f"{name}=1.0" for name in fields)
