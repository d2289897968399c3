"""The servers under `tests/servers` do what the other tests rely on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import aiomqtt
import pytest

from gateway.mqtt.embedded_broker import EmbeddedBroker
from tests.servers import (
    WITHIN,
    FlakyProxy,
    Influxd,
    InfluxV2Front,
    Mosquitto,
    ServerFailed,
    eventually,
    free_port,
    need,
)
from tests.servers.mqtt_clients import client, leave_session, publish, queued

TOPIC = "testbed/acme/d1/climate"


@contextlib.asynccontextmanager
async def influx(tmp_path: Path) -> AsyncIterator[tuple[Influxd, InfluxV2Front, aiohttp.ClientSession]]:
    async with (
        Influxd(tmp_path) as influxd,
        InfluxV2Front(influxd, buckets=["acme"]) as front,
        aiohttp.ClientSession(front.url, headers={"Authorization": f"Token {front.token}"}) as http,
    ):
        yield influxd, front, http


async def write(http: aiohttp.ClientSession, body: str, **options: Any) -> tuple[int, str, str]:
    """Status, InfluxDB 2's code and message ("" with 204)."""
    params = {"org": "testbed", "bucket": "acme", "precision": "ns", **options.pop("params", {})}
    async with http.post("/api/v2/write", params=params, data=body, **options) as answer:
        error = await answer.json() if answer.status != 204 else {"code": "", "message": ""}
        return answer.status, error["code"], error["message"]


async def test_a_session_and_its_queue_survive_a_restart_of_mosquitto(tmp_path: Path) -> None:
    """What Mosquitto queued for a persistent session is delivered, in order, after a restart."""
    async with Mosquitto(tmp_path) as broker:
        await leave_session(broker, "gateway", TOPIC)
        sent = [b"%d" % number for number in range(1500)]  # more than its default queue of 1,000
        await publish(broker, TOPIC, *sent)
        await broker.stop()
        assert not broker.running
        await broker.start()
        assert await queued(broker, "gateway", len(sent)) == sent


async def test_mosquitto_killed_keeps_what_was_saved(tmp_path: Path) -> None:
    """A killed Mosquitto comes back with the session and queue of its last autosave."""
    async with Mosquitto(tmp_path) as broker:
        await leave_session(broker, "gateway", TOPIC)
        await publish(broker, TOPIC, b"first", b"second")
        saved = broker.directory / "mosquitto.db"
        await eventually(lambda: saved.exists() and b"second" in saved.read_bytes(), says="it is saved")
        await broker.kill()
        await broker.start()
        assert await queued(broker, "gateway", 2) == [b"first", b"second"]


async def test_a_changed_configuration_is_in_force_after_a_restart(tmp_path: Path) -> None:
    """Lines of `conf` replace the defaults at the next start, and a start that fails says why."""
    async with Mosquitto(tmp_path, conf="allow_anonymous false") as broker:
        with pytest.raises(aiomqtt.MqttError):
            await publish(broker, TOPIC, b"1")
        await broker.stop()
        broker.conf = "no_such_option true"
        with pytest.raises(ServerFailed, match="no_such_option"):
            await broker.start()


async def test_a_missing_server_skips_a_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its server a test is skipped with the way to install it; with CI=true it fails."""
    need("sh")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-server.*make servers"):
        need("sh", "no-such-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-server"):
        need("no-such-server")


async def test_amqtt_keeps_the_queue_of_a_session_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """The embedded broker delivers what came while a session was away, on the same port after a restart."""
    caplog.set_level("DEBUG", logger="amqtt.broker")
    async with EmbeddedBroker(free_port()) as broker:
        await broker.stop()
        await broker.start()
        await leave_session(broker, "gateway", TOPIC)
        async with client(broker, "passing", clean=True):
            pass
        # clean sessions are dropped when anonymous ones are
        await eventually(lambda: "Expired 1 sessions" in caplog.text, says="amqtt has dropped what it does not keep")
        await publish(broker, TOPIC, b"1", b"2")
        assert await queued(broker, "gateway", 2) == [b"1", b"2"]


async def test_points_written_over_http_can_be_queried(tmp_path: Path) -> None:
    """A write answered 204 is there for InfluxQL, whole and in chunks, with the precision it came with."""
    async with influx(tmp_path) as (influxd, front, http):
        assert await write(http, "m,d=a v=1 1\nm,d=a v=2 2", params={"precision": "us"}) == (204, "", "")
        assert await influxd.rows("acme", "SELECT v FROM m") == [[1000, 1], [2000, 2]]
        chunked = {"db": "acme", "q": "SELECT v FROM m", "chunked": "true", "chunk_size": "1"}
        async with http.post("/query", data=chunked) as answer:
            parts = [json.loads(line) for line in (await answer.text()).splitlines()]
        assert [part["results"][0].get("partial", False) for part in parts] == [True, False]
        assert (front.counts["acme"].writes, front.counts["acme"].lines) == (1, 2)


@pytest.mark.parametrize(
    ("body", "options", "status", "code", "message"),
    [
        ("bad", {}, 400, "invalid", "unable to parse 'bad': missing fields"),
        ("m v=1 1\nbad", {}, 400, "invalid", "unable to parse 'bad': missing fields"),
        ("", {}, 400, "invalid", "writing requires points"),
        ("m v=1 1", {"params": {"precision": "m"}}, 400, "invalid", "invalid precision"),
        ("m v=1 1", {"headers": {"Authorization": "Token x"}}, 401, "unauthorized", "unauthorized access"),
        ("m v=1 1", {"params": {"bucket": "zz"}}, 404, "not found", 'bucket "zz" not found'),
        ("m v=1 1", {"params": {"org": "zz"}}, 404, "not found", 'organization name "zz" not found'),
        ("m v=1 1", {"params": {"bucket": "short"}}, 422, "unprocessable entity", "beyond retention policy"),
        ('t v="text" 1', {}, 422, "unprocessable entity", "partial write: field type conflict"),
    ],
)
async def test_the_front_refuses_as_influxdb_2(
    tmp_path: Path, body: str, options: dict[str, Any], status: int, code: str, message: str
) -> None:
    """What InfluxDB 2 refuses, the front refuses with InfluxDB 2's status, code and message."""
    async with influx(tmp_path) as (_, front, http):
        await front.create_bucket("short", retention="1d")
        await write(http, "t v=1 1")
        answer = await write(http, body, **options)
        assert answer[:2] == (status, code)
        assert message in answer[2]


async def test_queries_are_rejected_as_influxdb_2(tmp_path: Path) -> None:
    """A query with a wrong token, an unknown bucket or a mistake is rejected, each in its way."""
    async with influx(tmp_path) as (_, _, http):
        query = {"db": "acme", "q": "SELEC"}
        async with http.get("/query", params=query, headers={"Authorization": "Token x"}) as answer:
            assert answer.status == 401
        async with http.get("/query", params=query) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "invalid")
        async with http.get("/query", params={"db": "zz", "q": "SHOW MEASUREMENTS"}) as answer:
            assert (await answer.json())["results"][0]["error"] == "database not found: zz"


async def test_the_front_throttles_as_planned(tmp_path: Path) -> None:
    """The next writes are answered as planned, with Retry-After, write nothing, and then all is well."""
    async with influx(tmp_path) as (influxd, front, http):
        front.answer_next(1, 429, retry_after=3)
        front.answer_next(1, 503)
        front.answer_next(1, 500, bucket="other")
        async with http.post("/api/v2/write?org=testbed&bucket=acme", data="m v=1 1") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
        assert (await write(http, "m v=1 1"))[:2] == (503, "unavailable")
        assert (await write(http, "m v=2 2"))[0] == 204
        assert await influxd.rows("acme", "SELECT v FROM m") == [[2, 2]]
        assert (front.counts["acme"].asked, front.counts["acme"].writes) == (3, 1)


async def test_a_lost_answer_leaves_the_write_done(tmp_path: Path) -> None:
    """A write whose answer is lost looks like a failure to its sender, and is stored."""
    async with influx(tmp_path) as (influxd, front, http):
        front.lose_next_answers(1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await write(http, "m v=1 1")
        assert await influxd.rows("acme", "SELECT v FROM m") == [[1, 1]]


async def test_a_killed_influxd_is_a_dead_server_until_it_is_back(tmp_path: Path) -> None:
    """With influxd killed the front answers nothing; restarted, it has what it answered 204."""
    async with influx(tmp_path) as (influxd, _, http):
        assert (await write(http, "m v=1 1"))[0] == 204
        await influxd.kill()
        with pytest.raises(aiohttp.ClientConnectionError):
            await write(http, "m v=2 2")
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get("/health")
        await influxd.start()
        async with http.get("/health") as answer:
            assert (await answer.json())["status"] == "pass"
        assert await influxd.rows("acme", "SELECT v FROM m") == [[1, 1]]


async def test_a_cut_drops_and_refuses_connections_until_it_is_healed(tmp_path: Path) -> None:
    """A cut ends open connections and refuses new ones; after healing they get through again."""
    async with Mosquitto(tmp_path) as broker, FlakyProxy.before(broker) as network:
        async with contextlib.AsyncExitStack() as dropped:
            gateway = await dropped.enter_async_context(client(network, "gateway"))
            network.cut()
            with pytest.raises(aiomqtt.MqttError):
                await anext(aiter(gateway.messages))
        with pytest.raises(aiomqtt.MqttError):
            await publish(network, TOPIC, b"1")
        network.heal()
        await publish(network, TOPIC, b"1")


async def test_a_stall_holds_bytes_up_and_loses_none(tmp_path: Path) -> None:
    """During a stall nothing arrives; after healing what was held up arrives."""
    async with (
        Mosquitto(tmp_path) as broker,
        FlakyProxy.before(broker) as network,
        client(network, "device", clean=True) as device,
    ):
        network.stall()
        publishing = asyncio.create_task(device.publish(TOPIC, b"1", qos=1, timeout=WITHIN))
        done, _ = await asyncio.wait([publishing], timeout=0.3)
        assert not done
        network.heal()
        await publishing


async def test_a_wait_that_fails_reports_the_last_value() -> None:
    """A condition that stays false ends in an AssertionError with the last value; a true one in its value."""
    assert await eventually(lambda: "here") == "here"
    with pytest.raises(AssertionError, match=r"the queue is full; last value: 0"):
        await eventually(lambda: 0, within=0.05, says="the queue is full")
    with pytest.raises(AssertionError, match="never came back"):
        await eventually(asyncio.Event().wait, within=0.05)
