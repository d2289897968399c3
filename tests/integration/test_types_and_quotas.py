"""Types of fields and quotas of devices in a whole gateway: they hold across restarts and reloads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from ruamel.yaml import YAML

from gateway.state.database import FILE_NAME
from tests.running import OPERATOR, Running, running, write_config
from tests.servers import Influxd, InfluxV2Front, Mosquitto, eventually


@pytest.fixture(params=["sqlite", "influxdb"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """Settings of each kind of store."""
    if request.param == "sqlite":
        yield {"kind": "sqlite"}
        return
    async with (
        Influxd(tmp_path / "influxd") as influxd,
        InfluxV2Front(influxd, buckets=["acme", "voltwise"]) as front,
    ):
        monkeypatch.setenv("GATEWAY_INFLUXDB_TOKEN", front.token)
        yield {"kind": "influxdb", "influxdb": {"url": front.url, "org": front.org}}


def write_startup(config: Path, fields: Mapping[str, Any], **settings: Any) -> None:
    """Write acme's file with a rule of these fields, which keeps the members that it does not name."""
    rule = {"topic": "testbed/acme/{device}/climate", "fields": fields, "unknown": "keep"}
    made = {"name": "Acme", "topics": {"climate": rule}, **settings}
    YAML().dump(made, config / "startups" / "acme.yaml")


async def send(client: aiomqtt.Client, device: str, **members: Any) -> None:
    await client.publish(f"testbed/acme/{device}/climate", json.dumps(members).encode(), qos=1)


async def rejected(gateway: Running, count: int) -> None:
    async def enough() -> bool:
        return (await gateway.counts()).rejected >= count

    await eventually(enough, says=f"{count} records are rejected")


async def get(gateway: Running, path: str) -> Any:
    async with gateway.client("acme-token") as client:
        return (await client.get(f"/v1/startups/acme/{path}")).json()


async def test_refused_names_take_no_place_of_a_device(
    tmp_path: Path, broker: Mosquitto, device: aiomqtt.Client
) -> None:
    """Names that were only rejected keep no device out of the list, and the limit is the same after a restart."""
    config = write_config(tmp_path / "config", broker.url)
    write_startup(config, {"t": {"type": "float"}}, quota={"devices": 2})
    async with running(config) as gateway:
        for name in ("typo-1", "typo-2"):
            await send(device, name, t="warm")
        await rejected(gateway, 2)
        for name in ("real-1", "real-2"):
            await send(device, name, t=1)
        await gateway.stored(2)
        with sqlite3.connect(tmp_path / "state" / FILE_NAME) as state:  # as a crash would find it
            assert state.execute("SELECT count(*) FROM series").fetchone() == (2,)
        devices = {one["device"]: one["accepted"] for one in (await get(gateway, "devices"))["devices"]}
        assert devices == {"real-1": 1, "real-2": 1, "typo-1": 0, "typo-2": 0}
    async with running(config) as gateway:
        await send(device, "real-3", t=1)
        await rejected(gateway, 3)
        await send(device, "real-2", t=1)
        assert (await gateway.stored(3)).rejected == 3
        (letter, *_) = (await get(gateway, "rejections"))["rejections"]
        assert letter["reasons"][0]["expected"] == "at most 2 devices"
        assert "quota.devices: 2 used" in letter["reasons"][0]["hint"]


async def test_types_of_fields_hold_across_a_restart(
    tmp_path: Path, broker: Mosquitto, device: aiomqtt.Client, store: dict[str, Any]
) -> None:
    """One odd first value bars nobody, the type stays after a restart, and the store refuses nothing."""
    config = write_config(tmp_path / "config", broker.url, store=store)
    write_startup(config, {"t": {"type": "float"}})
    async with running(config) as gateway:
        await send(device, "odd", t=1, x="n/a")
        for name in ("a", "b"):
            await send(device, name, t=1, x=1)
        await rejected(gateway, 1)
        await gateway.stored(2)
        found = {one["field"]: (one["type"], one["device"]) for one in (await get(gateway, "types"))["types"]}
        assert found == {"t": ("float", None), "x": ("float", "a")}
    async with running(config) as gateway:
        await send(device, "odd", t=1, x="n/a")
        await rejected(gateway, 2)
        await send(device, "c", t=1, x=2)
        counts = await gateway.stored(3)
        assert (counts.refused, counts.balanced) == (0, True)
        letters = (await get(gateway, "rejections"))["rejections"]
        assert [(one["device"], one["reasons"][0]["code"]) for one in letters] == [("odd", "type_conflict")] * 2


async def test_integers_may_follow_floats(
    tmp_path: Path, broker: Mosquitto, device: aiomqtt.Client, store: dict[str, Any]
) -> None:
    """A field that has floats may be declared an integer: the store takes both, and refuses nothing."""
    config = write_config(tmp_path / "config", broker.url, store=store)
    for kind, value in (("float", 1.5), ("int", 2)):
        write_startup(config, {"t": {"type": kind}})
        async with running(config) as gateway:
            await send(device, kind, t=value)
            counts = await gateway.stored(1 if kind == "float" else 2)
            assert (counts.refused, counts.rejected) == (0, 0)


async def test_messages_that_wait_survive_a_restart(tmp_path: Path, broker: Mosquitto, device: aiomqtt.Client) -> None:
    """A message that waits for a type is on disk when it is acknowledged, and is stored after a restart."""
    config = write_config(tmp_path / "config", broker.url)
    write_startup(config, {"t": {"type": "float"}})
    async with running(config) as gateway:
        await send(device, "a", t=1, x="open")
        await eventually(lambda: gateway.gateway.engine.ingest.holds, says="the message waits")
    async with running(config) as gateway:
        await send(device, "b", t=1, x="shut")
        counts = await gateway.stored(2)
        assert (counts.received, counts.rejected, counts.balanced) == (2, 0, True)
        latest = (await get(gateway, "latest"))["readings"]
        assert sorted(one["fields"]["x"] for one in latest) == ["open", "shut"]


async def test_a_rule_cannot_change_the_type_of_a_field(
    tmp_path: Path, broker: Mosquitto, device: aiomqtt.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload that declares another type is not used, and says which; once the type is forgotten, it is."""
    monkeypatch.setenv("GATEWAY_TOKEN_ACME", "acme-token")
    config = write_config(tmp_path / "config", broker.url)
    write_startup(config, {"t": {"type": "int"}})
    async with running(config, reloads=True) as gateway:
        reloader = gateway.gateway.reloader
        assert reloader is not None
        await send(device, "a", t=1)
        await gateway.stored(1)
        write_startup(config, {"t": {"type": "float"}})
        await reloader.now()
        assert "topics.climate.fields.t.type: expected int" in reloader.problem
        await send(device, "a", t=2)
        await gateway.stored(2)
        async with gateway.client(OPERATOR) as operator:
            wanted = {"startup": "acme", "measurement": "climate", "field": "t"}
            answer = await operator.post("/v1/operator/types/forget", json=wanted)
        assert answer.json() == {"forgotten": 1}
        assert reloader.problem == ""
        assert (await get(gateway, "types"))["types"] == []
        assert gateway.gateway.config.by_slug["acme"].topics["climate"].fields["t"].type == "float"


async def test_a_gateway_that_starts_with_another_type_stores_none_of_it(
    tmp_path: Path, broker: Mosquitto, device: aiomqtt.Client
) -> None:
    """Readings of such a field become dead letters, those of other startups go on, and the health says why."""
    config = write_config(tmp_path / "config", broker.url)
    write_startup(config, {"t": {"type": "int"}})
    async with running(config) as gateway:
        await send(device, "a", t=1)
        await gateway.stored(1)
    write_startup(config, {"t": {"type": "string"}})
    async with running(config, reloads=True) as gateway:
        await send(device, "a", t="warm")
        await rejected(gateway, 1)
        assert (await get(gateway, "rejections"))["rejections"][0]["reasons"][0]["code"] == "type_conflict"
        await eventually(lambda: "fields.t.type" in gateway.gateway.health().config.problem, says="the health says why")
        assert (await gateway.counts()).refused == 0
