"""What the fleet sends, held against the sample configuration in config/startups, read anew."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ruamel.yaml import YAML

from devices.faults import FAULTS, Fault
from devices.fleet import FACTORIES, SPOILED, Share, Unit, build
from devices.telemetry import Device, Telemetry, encode

SAMPLES = Path(__file__).parents[3] / "config" / "startups"
NOW = 1_795_392_000.0
SECONDS = {"m": 60, "d": 86_400}
KINDS = {"float": (int, float), "int": (int,), "bool": (bool,), "string": (str,)}
MISSING = object()


def topics(startup: str) -> dict[str, Any]:
    """The topic rules of a sample file."""
    with (SAMPLES / f"{startup}.yaml").open(encoding="utf-8") as file:
        return dict(YAML(typ="safe").load(file)["topics"])


RULES = {startup: topics(startup) for startup in FACTORIES}


def rule_for(startup: str, topic: str) -> Any:
    """The one rule whose template the topic fills."""
    found = [
        rule
        for rule in RULES[startup].values()
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(rule["topic"])), topic)
    ]
    assert len(found) == 1, topic
    return found[0]


def problems(rule: Any, payload: bytes, now: float) -> list[str]:
    """All that is wrong with a payload, by the rule; empty for a good one."""
    try:
        body = json.loads(payload)
    except ValueError:
        return ["not JSON"]
    records = body if isinstance(body, list) else [body]
    return [problem for record in records for problem in _record_problems(rule, record, now)]


def _record_problems(rule: Any, record: Any, now: float) -> list[str]:
    if not isinstance(record, dict):
        return ["not an object"]
    found = [f"/{name} is unknown" for name in _unknown(rule, record)] if rule.get("unknown") == "reject" else []
    for name, field in rule["fields"].items():
        found += _field_problems(field, pick(record, field.get("from", f"/{name}")))
    if "time" in rule:
        found += _time_problems(rule["time"], pick(record, rule["time"]["from"]), now)
    return found


def pick(record: Any, pointer: str) -> Any:
    """What a JSON Pointer (without escapes) points at, or MISSING."""
    for token in pointer.split("/")[1:]:
        record = record.get(token, MISSING) if isinstance(record, dict) else MISSING
    return record


def _unknown(rule: Any, record: dict[str, Any]) -> set[str]:
    pointers = [field.get("from", f"/{name}") for name, field in rule["fields"].items()]
    pointers += [rule["time"]["from"], *rule.get("tags", {}).values()]
    return set(record) - {pointer.split("/")[1] for pointer in pointers}


def _field_problems(field: Any, value: Any) -> list[str]:
    if value is MISSING:
        return ["missing"] if field.get("required", True) else []
    if not isinstance(value, KINDS[field["type"]]) or (isinstance(value, bool) and field["type"] != "bool"):
        return [f"{value!r} is no {field['type']}"]
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{value} is not finite"]
    if "min" in field and not field["min"] <= value <= field.get("max", math.inf):
        return [f"{value} is out of range"]
    return []


def _time_problems(time: Any, value: Any, now: float) -> list[str]:
    if value is MISSING:
        return ["no time"]
    if time["unit"] == "rfc3339":
        moment = datetime.fromisoformat(value).timestamp()
    else:
        moment = value / {"s": 1, "ms": 1000}[time["unit"]]
    oldest = now - _seconds(time.get("max_age", "30d"))
    latest = now + _seconds(time.get("max_future", "5m"))
    return [] if oldest <= moment <= latest else [f"{value} is a wrong time"]


def _seconds(text: str) -> float:
    return float(text[:-1]) * SECONDS[text[-1]]


def fleet(misbehaving: Share | None = None, seed: str = "test") -> list[Unit]:
    return build(FACTORIES, devices=8, misbehaving=misbehaving or Share(), seed=seed)


def everything_measured(startup: str, hours: int = 30) -> list[tuple[float, Telemetry]]:
    """What eight devices of a startup measure, one look every 20 s."""
    devices: list[Device] = [FACTORIES[startup](number, "test") for number in range(1, 9)]
    looks = (NOW + place * 20 for place in range(hours * 180))
    return [(now, telemetry) for now in looks for device in devices for telemetry in device.measure(now)]


@pytest.mark.parametrize("startup", FACTORIES)
def test_good_payloads_obey_the_rules(startup: str) -> None:
    """All that a well-behaved device sends in more than a day fits the sample configuration."""
    seen = set()
    for now, telemetry in everything_measured(startup):
        rule = rule_for(startup, telemetry.topic)
        assert problems(rule, encode(telemetry.body), now) == [], telemetry
        seen.add(rule["topic"])
    assert seen == {rule["topic"] for rule in RULES[startup].values()}


@pytest.mark.parametrize("startup", FACTORIES)
def test_optional_fields_are_sent_too(startup: str) -> None:
    """Every field of every rule is sent by some device."""
    sent: set[tuple[str, str]] = set()
    for _, telemetry in everything_measured(startup, hours=1):
        rule = rule_for(startup, telemetry.topic)
        records = telemetry.body if isinstance(telemetry.body, list) else [telemetry.body]
        for name, field in rule["fields"].items():
            if any(pick(record, field.get("from", f"/{name}")) is not MISSING for record in records):
                sent.add((rule["topic"], name))
    assert sent == {(rule["topic"], name) for rule in RULES[startup].values() for name in rule["fields"]}


def test_soil_probes_send_what_they_kept() -> None:
    """A probe sends an array, each record with the moment of its own measurement."""
    bodies = [telemetry.body for _, telemetry in everything_measured("greenbed", hours=1) if telemetry.channel.clock]
    assert bodies
    for body in bodies:
        assert isinstance(body, list)
        times = [record["at"] for record in body]
        assert len(times) == 5
        assert times == sorted(set(times))


def test_moisture_jumps_when_the_pump_of_the_bed_runs() -> None:
    """The pump's report and the probes' moisture are one story: after each run the soil is wetter."""
    flows: dict[float, bool] = {}
    moisture: dict[float, float] = {}
    pump, probe = FACTORIES["greenbed"](2, "test"), FACTORIES["greenbed"](1, "test")
    for now in (NOW + second for second in range(1800)):
        flows[now] = any(record["on"] for record in _records(pump, now))
        moisture |= {record["at"]: record["moisture"] for record in _records(probe, now)}
    starts = [now for now in flows if flows[now] and not flows.get(now - 1, True)]
    assert starts
    assert all(moisture[now + 44] > moisture[now] + 8 for now in starts if now + 44 in moisture)


def _records(device: Device, now: float) -> list[dict[str, Any]]:
    bodies = [telemetry.body for telemetry in device.measure(now)]
    return [record for body in bodies for record in (body if isinstance(body, list) else [body])]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_breaks_a_rule(fault: Fault) -> None:
    """Wherever a fault applies, what it makes of a good payload is rejected; it applies somewhere."""
    rng = Random(1)
    spoiled = 0
    for startup in FACTORIES:
        for now, telemetry in everything_measured(startup, hours=1):
            if fault.applies(telemetry.channel):
                payload = fault.spoil(telemetry, now, rng)
                assert problems(rule_for(startup, telemetry.topic), payload, now), payload
                spoiled += 1
    assert spoiled > 100


def test_faults_leave_the_good_payload_alone() -> None:
    """A fault works on a copy: the telemetry that it was given stays good."""
    for now, telemetry in everything_measured("greenbed", hours=1):
        before = encode(telemetry.body)
        for fault in FAULTS:
            if fault.applies(telemetry.channel):
                fault.spoil(telemetry, now, Random(2))
        assert encode(telemetry.body) == before


def test_misbehaving_devices_do_it_now_and_then() -> None:
    """Only the devices that should misbehave do, for one message in three, and every fault turns up."""
    seen: Counter[str] = Counter()
    for unit in fleet(Share(fraction=0.5)):
        messages = [message for place in range(600) for message in unit.messages(NOW + place)]
        faults = [message.fault for message in messages if message.fault]
        assert len(faults) == (math.ceil(len(messages) / SPOILED) if unit.misbehaving else 0)
        seen.update(faults)
    assert set(seen) == {fault.name for fault in FAULTS}


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Share(), 0),
        (Share(fraction=0.25), 2),
        (Share(fraction=0.01), 1),
        (Share(fraction=1.0), 8),
        (Share(count=3), 3),
        (Share(count=99), 8),
    ],
)
def test_share_of_misbehaving_devices(share: Share, expected: int) -> None:
    """A fraction is at least one device, a count at most all of them, and nothing is nothing."""
    for startup in FACTORIES:
        assert sum(unit.misbehaving for unit in fleet(share) if unit.startup == startup) == expected


def test_fleet_is_deterministic() -> None:
    """The same seed gives the same bytes at the same moments, another seed others; names are unique."""

    def sent(seed: str) -> list[bytes]:
        units = fleet(Share(fraction=0.25), seed)
        assert len({(unit.startup, unit.name) for unit in units}) == len(units) == 24
        return [m.payload for place in range(50) for unit in units for m in unit.messages(NOW + place)]

    assert sent("a") == sent("a")
    assert sent("a") != sent("b")
