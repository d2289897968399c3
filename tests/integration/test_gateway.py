"""The whole gateway against real Mosquitto: what devices, startups and operators notice."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.errors import GatewayError, StateUnavailable
from tests.running import Running, climate, running, write_config
from tests.servers import WITHIN, Mosquitto, eventually


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def next_json(client: aiomqtt.Client) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN):
        message = await anext(client.messages)
    assert isinstance(message.payload, bytes)
    body: dict[str, Any] = json.loads(message.payload)
    return body


async def get(gateway: Running, path: str, token: str | None = "acme-token") -> Any:
    async with gateway.client(token) as client:
        return await client.get(path)


async def test_a_reading_is_stored_and_found(gateway: Running, device: aiomqtt.Client) -> None:
    """What a device sends is in the history, in `latest` and among the devices."""
    await device.publish("testbed/acme/th-1/climate", climate(21.5, now_ms()), qos=1)
    counts = await gateway.stored(1)
    assert counts.balanced
    history = (await get(gateway, "/v1/startups/acme/telemetry?measurement=climate")).json()
    assert history["count"] == 1
    assert history["units"] == {"temperature": "celsius"}
    assert history["readings"][0]["tags"] == {"device": "th-1"}
    assert history["readings"][0]["fields"] == {"temperature": 21.5}
    latest = (await get(gateway, "/v1/startups/acme/latest")).json()
    assert latest["readings"][0]["device"] == "th-1"
    devices = (await get(gateway, "/v1/startups/acme/devices")).json()["devices"]
    assert [(one["device"], one["state"], one["accepted"]) for one in devices] == [("th-1", "ok", 1)]


async def test_a_rejection_reaches_the_device_with_every_reason(gateway: Running, device: aiomqtt.Client) -> None:
    """A wrong message is answered on the device's feedback topic: what was expected, what came and where."""
    await device.subscribe("feedback/acme/th-1", qos=1)
    await device.publish("testbed/acme/th-1/climate", b'{"ts":1,"t":"warm","x":1}', qos=1)
    feedback = await next_json(device)
    assert feedback["topic"] == "testbed/acme/th-1/climate"
    assert {(one["code"], one["where"]) for one in feedback["reasons"]} == {
        ("bad_time", "/ts"),
        ("wrong_type", "/t"),
        ("unknown_field", "/x"),
    }
    reason = next(one for one in feedback["reasons"] if one["where"] == "/t")
    assert reason["expected"] == "a number from -40 to 125 (celsius)"
    assert reason["got"] == '"warm"'


async def test_valid_messages_flow_beside_invalid_ones(gateway: Running, device: aiomqtt.Client) -> None:
    """Bad messages of every kind become dead letters with their raw bytes; good ones between them are stored."""
    bad = {
        "testbed/acme/th-1/climate": b"\xff\x00 no json",
        "testbed/acme/th 1/climate": climate(20, now_ms()),
        "testbed/acme/th-1/unknown": climate(20, now_ms()),
        "testbed/nobody/th-1/climate": climate(20, now_ms()),
        "testbed/acme/a/b/climate": climate(20, now_ms()),
        "testbed/acme/th-2/climate": b'{"ts":%d,"t":20,"pad":"%s"}' % (now_ms(), b"x" * 70_000),
    }
    for number, (topic, payload) in enumerate(bad.items()):
        await device.publish(topic, payload, qos=1)
        await device.publish("testbed/acme/good/climate", climate(20, now_ms() + number), qos=1)
    counts = await gateway.stored(len(bad))
    assert counts.balanced
    assert counts.rejected == 5
    assert (await gateway.counts("_unrouted")).rejected == 1
    listed = (await get(gateway, "/v1/startups/acme/rejections")).json()["rejections"]
    codes = {one["topic"]: one["reasons"][0]["code"] for one in listed}
    assert codes == {
        "testbed/acme/th-1/climate": "not_json",
        "testbed/acme/th 1/climate": "bad_device",
        "testbed/acme/th-1/unknown": "no_rule",
        "testbed/acme/a/b/climate": "no_rule",
        "testbed/acme/th-2/climate": "too_large",
    }
    found = next(one for one in listed if one["topic"] == "testbed/acme/th-1/climate")
    assert found["payload"] == "\\xff\x00 no json"


async def test_replay_after_the_rule_was_mended(config: Path, broker: Mosquitto, device: aiomqtt.Client) -> None:
    """A dead letter that is replayed after its rule was mended is stored and gone; one that is still wrong says why."""
    async with running(config) as first:
        await device.publish("testbed/acme/th-1/climate", climate(200, now_ms()), qos=1)
        await device.publish("testbed/acme/th-1/climate", climate(-300, now_ms()), qos=1)
        await eventually(lambda: rejected(first, 2))
    path = config / "startups" / "acme.yaml"
    path.write_text(path.read_text().replace("max: 125", "max: 300"))
    async with running(config) as second:
        listed = (await get(second, "/v1/startups/acme/rejections")).json()["rejections"]
        ids = [one["id"] for one in listed]
        async with second.client("acme-token") as client:
            answer = await client.post("/v1/startups/acme/rejections/replay", json={"ids": [*ids, 999]})
        results = {one["id"]: one["result"] for one in answer.json()["results"]}
        assert results == {ids[1]: "accepted", ids[0]: "rejected again", 999: "not found"}
        counts = await second.stored(1)
        assert counts.balanced
        left = (await get(second, "/v1/startups/acme/rejections")).json()["rejections"]
        assert [one["reasons"][0]["got"] for one in left] == ["-300"]


async def rejected(gateway: Running, count: int) -> bool:
    return (await gateway.counts()).rejected >= count


async def test_points_that_the_store_refuses_do_not_hold_up_the_others(
    config: Path, broker: Mosquitto, device: aiomqtt.Client
) -> None:
    """After a field's type was changed and forgotten, the store refuses just the points that conflict: they are dead
    letters that can be found, the device gets feedback, everything else is stored."""
    async with running(config) as first:
        await device.publish("testbed/acme/th-1/climate", climate(20, now_ms(), 1), qos=1)
        await first.stored(1)
        assert await first.gateway.engine.forget_type("acme", "climate", "seq") == 1
    path = config / "startups" / "acme.yaml"
    uncounted = re.sub(r"(?m)^ +seq: /.*\n", "", path.read_text())  # a sequence number has to be an integer
    path.write_text(uncounted.replace("type: int", "type: float"))
    await device.subscribe("feedback/acme/th-1", qos=1)
    async with running(config) as second:
        for number in range(20):
            await device.publish("testbed/acme/th-1/climate", climate(20, now_ms() - 1000 + number), qos=1)
        await device.publish("testbed/acme/th-1/climate", climate(20, now_ms(), 2), qos=1)
        counts = await second.stored(21)
        await eventually(lambda: refused(second, 1))
        counts = await second.counts()
        assert (counts.stored, counts.refused, counts.balanced) == (21, 1, True)
        feedback = await next_json(device)
        assert feedback["reasons"][0]["code"] == "store_refused"
        assert "seq" in feedback["reasons"][0]["got"]


async def refused(gateway: Running, count: int) -> bool:
    return (await gateway.counts()).refused >= count


async def test_the_mqtt_feed(gateway: Running, device: aiomqtt.Client) -> None:
    """Accepted readings appear on feeds/{startup}/{device}/{measurement} as JSON."""
    await device.subscribe("feeds/#")
    await device.publish("testbed/acme/th-1/climate", climate(21.5, 1000 * (now_ms() // 1000)), qos=1)
    reading = await next_json(device)
    assert reading["device"] == "th-1"
    assert reading["fields"] == {"temperature": 21.5}


async def test_each_startup_sees_its_own_alone(gateway: Running, device: aiomqtt.Client) -> None:
    """No token: 401. A wrong one: 401. Another startup's: 403, on every path. The operator's: all."""
    await device.publish("testbed/voltwise/v-1/climate", climate(20, now_ms()), qos=1)
    await gateway.stored(1, "voltwise")
    paths = ["", "/devices", "/latest", "/telemetry?measurement=climate", "/live", "/rejections"]
    for path in paths:
        url = f"/v1/startups/voltwise{path}"
        assert (await get(gateway, url, None)).status_code == 401
        assert (await get(gateway, url, "wrong")).status_code == 401
        assert (await get(gateway, url, "acme-token")).status_code == 403
    async with gateway.client("acme-token") as client:
        answer = await client.post("/v1/startups/voltwise/rejections/replay", json={"ids": [1]})
        assert answer.status_code == 403
        assert (await client.post("/v1/operator/rejections/replay", json={"ids": [1]})).status_code == 403
        assert (await client.get("/v1/operator/status")).status_code == 403
        assert (await client.get("/metrics")).status_code == 403
    assert (await get(gateway, "/v1/startups/voltwise/latest", "operator-token")).json()["readings"]
    assert (await get(gateway, "/v1/startups/nobody/latest", "operator-token")).status_code == 404
    own = (await get(gateway, "/v1/startups/acme/latest", "acme-token")).json()
    assert own["readings"] == []


async def test_a_measurement_that_does_not_exist(gateway: Running) -> None:
    """404 as a problem document that lists the measurements that there are."""
    answer = await get(gateway, "/v1/startups/acme/telemetry?measurement=nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["measurements"] == ["climate"]
    assert "climate" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("start=yesterday", "start: expected RFC 3339"),
        ("start=-1h&stop=-2h", "start: expected a time before stop"),
        ("every=5", "every: expected a duration"),
        ("format=xml", "format"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
    ],
)
async def test_invalid_parameters_are_reported(gateway: Running, query: str, says: str) -> None:
    """422 that names the parameter, what was expected and what came."""
    answer = await get(gateway, f"/v1/startups/acme/telemetry?measurement=climate&{query}")
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


async def test_impossible_ids_of_dead_letters_are_reported(gateway: Running) -> None:
    """422 for what is no id, however large."""
    answer = await get(gateway, f"/v1/startups/acme/rejections?before={10**30}")
    assert answer.status_code == 422
    async with gateway.client("acme-token") as client:
        answer = await client.post("/v1/startups/acme/rejections/replay", json={"ids": [10**30]})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"ids": ["\\ud800"]}', 400),
        (b'{"ids": [1], "\\udfff": 1}', 400),
        (b'{"ids": ["\xff"]}', 400),
        (b'{"ids": ' + b"[" * 30_000, 400),
        (b'{"ids": [' + b"9" * 30_000 + b"]}", 400),
        (b'{"ids": [NaN, 1e999, "' + b"x" * 30_000 + b'"]}', 422),
        (b'{"ids": [' + b"-1," * 20_000 + b"-1]}", 422),
    ],
)
async def test_strange_bodies_are_reported(gateway: Running, body: bytes, status: int) -> None:
    """What is no text, or nested or long beyond sense, is a short problem document, never a failure."""
    headers = {"Content-Type": "application/json"}
    for token, path in (("acme-token", "startups/acme"), ("operator-token", "operator")):
        async with gateway.client(token) as client:
            answer = await client.post(f"/v1/{path}/rejections/replay", content=body, headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert len(answer.content) < 10_000


async def test_history_as_json_csv_and_ndjson(gateway: Running, device: aiomqtt.Client) -> None:
    """The same rows in three formats, downsampled if asked, bounded if asked."""
    start = 600_000 * ((now_ms() - 3_600_000) // 600_000)
    for number in range(120):
        await device.publish("testbed/acme/th-1/climate", climate(number, start + number * 1000), qos=1)
    await gateway.stored(120)
    base = "/v1/startups/acme/telemetry?measurement=climate&start=-2h"
    everything = (await get(gateway, base)).json()
    assert everything["count"] == 120
    assert everything["truncated"] is False
    some = (await get(gateway, f"{base}&limit=7")).json()
    assert (some["count"], some["truncated"], len(some["readings"])) == (7, True, 7)
    lines = (await get(gateway, f"{base}&format=ndjson")).text.splitlines()
    assert [json.loads(line) for line in lines] == everything["readings"]
    rows = (await get(gateway, f"{base}&format=csv")).text.splitlines()
    assert rows[0] == "time,device,temperature,seq"
    assert rows[1].endswith(",th-1,0.0,")
    assert len(rows) == 121
    minutes = (await get(gateway, f"{base}&every=1m")).json()["readings"]
    assert [row["fields"]["temperature"] for row in minutes] == [29.5, 89.5]


async def test_probes_metrics_and_status(gateway: Running, device: aiomqtt.Client) -> None:
    """/healthz and /readyz answer anybody; why, and the ledger's figures, are for operators."""
    await device.publish("testbed/acme/th-1/climate", climate(20, now_ms()), qos=1)
    await device.publish("testbed/acme/th-1/climate", b"{}", qos=1)
    await gateway.stored(1)
    await eventually(lambda: rejected(gateway, 1))
    assert (await get(gateway, "/healthz", None)).json() == {"ok": True}
    for token in (None, "acme-token"):
        ready = await get(gateway, "/readyz", token)
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
    assert (await get(gateway, "/readyz", "wrong")).status_code == 401
    assert (await get(gateway, "/readyz", "operator-token")).json()["parts"]["broker"] == {"ok": True}
    metrics = (await get(gateway, "/metrics", "operator-token")).text
    assert 'gateway_stored_records_total{startup="acme"} 1.0' in metrics
    assert 'gateway_rejection_reasons_total{code="missing",startup="acme"} 2.0' in metrics
    status = (await get(gateway, "/v1/operator/status", "operator-token")).json()
    assert status["total"]["balanced"] is True
    assert status["startups"]["acme"]["dead_letters"] == 1


async def test_not_ready_while_the_broker_is_away(gateway: Running, broker: Mosquitto) -> None:
    """Without the broker /readyz is 503, and says what is wrong to operators; with it back, 200."""
    await broker.stop()

    async def ready() -> int:
        return int((await get(gateway, "/readyz", None)).status_code)

    await eventually(lambda: is_now(ready, 503))
    assert (await get(gateway, "/readyz", None)).json() == {"ready": False}
    problem = (await get(gateway, "/readyz", "operator-token")).json()["parts"]["broker"]["problem"]
    assert str(broker.port) in problem
    await broker.start()
    await eventually(lambda: is_now(ready, 200))


async def is_now(ask: Any, expected: int) -> bool:
    return bool(await ask() == expected)


async def test_two_gateways_do_not_share_a_state_directory(gateway: Running, config: Path) -> None:
    """The second one ends at once and says which directory is taken."""
    with pytest.raises(StateUnavailable, match="another gateway is running"):
        async with running(config):
            pass


async def test_a_taken_http_port_is_reported(gateway: Running, broker: Mosquitto, tmp_path: Path) -> None:
    """A gateway whose HTTP address is taken says which setting to look at."""
    listen = gateway.url.removeprefix("http://")
    other = write_config(tmp_path / "other" / "config", broker.url, http={"listen": listen, "console": False})
    with pytest.raises(GatewayError, match=r"http\.listen"):
        async with running(other):
            pass


async def test_devices_and_dead_letters_survive_a_restart(config: Path, device: aiomqtt.Client) -> None:
    """Who was seen, and what was rejected, is known after a restart."""
    async with running(config) as first:
        await device.publish("testbed/acme/th-1/climate", climate(20, now_ms()), qos=1)
        await device.publish("testbed/acme/th-1/climate", b"{", qos=1)
        await first.stored(1)
        await eventually(lambda: rejected(first, 1))
    async with running(config) as second:
        devices = (await get(second, "/v1/startups/acme/devices")).json()["devices"]
        assert [(one["device"], one["accepted"], one["rejected"]) for one in devices] == [("th-1", 1, 1)]
        assert len((await get(second, "/v1/startups/acme/rejections")).json()["rejections"]) == 1
