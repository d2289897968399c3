"""No startup can read or write another's topics, nor the gateway's own: on real Mosquitto, as provisioned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.config import Config, Settings, Startup
from gateway.errors import AdminRejected, ProvisionError, ServerUnreachable
from gateway.mqtt.broker import Broker
from gateway.provision import cohorts, run
from gateway.provision.mosquitto import GATEWAY_PASSWORD, MosquittoServer
from gateway.provision.plan import Credential, Plan
from gateway.provision.secret_files import SecretFiles
from tests.servers import WITHIN, Mosquitto, eventually, free_port
from tests.servers.dynsec import ADMIN, ADMIN_PASSWORD, SecureMosquitto
from tests.servers.mqtt_clients import connect

SLUGS = ("acme", "voltwise", "greenbed")
REJECTED = 128
PAIRS = list(permutations(SLUGS, 2))
TAKEOVER = b'{"commands":[{"command":"deleteClient","username":"gateway"}]}'


def startup(slug: str, *devices: str) -> Startup:
    rules = {
        "climate": {"topic": f"testbed/{slug}/{{device}}/climate", "fields": {"t": {"type": "float"}}},
        "radio": {"topic": f"lora/{slug}/{{device}}/{{port}}/up", "fields": {"t": {"type": "float"}}},
    }
    return Startup.model_validate({"slug": slug, "name": slug.title(), "devices": devices, "topics": rules})


def configuration(*startups: Startup) -> Config:
    return Config(settings=Settings(), startups=startups)


CONFIG = configuration(*(startup(slug, "d1", "d2") for slug in SLUGS))


@dataclass
class Stack:
    """A provisioned broker and the passwords of its accounts."""

    broker: SecureMosquitto
    passwords: dict[str, str]

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[aiomqtt.Client]:
        password = ADMIN_PASSWORD if user == ADMIN else self.passwords[user]
        async with connect(self.broker, username=user, password=password) as client:
            yield client

    async def attempt(self, user: str, topic: str, payload: bytes) -> None:
        """Publish what is forbidden: Mosquitto 2.0 acknowledges it, drops it and closes the connection."""
        with suppress(aiomqtt.MqttError):
            async with self.client(user) as client:
                await client.publish(topic, payload, qos=1)


def secret_files(broker: Mosquitto) -> SecretFiles:
    return SecretFiles(broker.directory / "secrets")


def admin(broker: Mosquitto, password: str = ADMIN_PASSWORD) -> MosquittoServer:
    return MosquittoServer(Broker("127.0.0.1", broker.port), ADMIN, password, secret_files(broker))


async def provision(broker: Mosquitto, config: Config = CONFIG, *, prune: bool = False) -> list[Credential]:
    """Plan and apply as `gateway provision apply` does."""
    server = admin(broker)
    try:
        plan = await run.plan(config, [server], prune=prune)
        applied = await run.apply(plan, [server], lambda _step: None)
    finally:
        await server.close()
    assert applied.problem == ""
    return list(applied.credentials)


async def planned(broker: Mosquitto, config: Config = CONFIG, *, prune: bool = False) -> Plan:
    server = admin(broker)
    try:
        return await run.plan(config, [server], prune=prune)
    finally:
        await server.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One provisioned broker for all tests that only read it."""
    with asyncio.Runner() as runner:
        broker = SecureMosquitto(tmp_path_factory.mktemp("mosquitto"))
        runner.run(broker.start())
        credentials = runner.run(provision(broker))
        passwords = {one.name: one.secret for one in credentials}
        yield Stack(broker, passwords | {"gateway": secret_files(broker).read(GATEWAY_PASSWORD) or ""})
        runner.run(broker.stop())


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SecureMosquitto]:
    async with SecureMosquitto(tmp_path) as server:
        yield server


def filters_into(other: str) -> list[str]:
    """Return every filter that requests a part of another startup's topics."""
    plain = [
        f"testbed/{other}/d1/climate", f"testbed/{other}/#", f"testbed/{other}/+/climate", "testbed/+/d1/climate",
        "testbed/#", "testbed/+/+/climate", "+/+/+/climate", f"+/{other}/#", f"feeds/{other}/#", "feeds/#", "feeds/+/#",
        f"feeds/{other}/d1/climate", f"feedback/{other}/d1", f"feedback/{other}/#", "feedback/#", "feedback/+/+",
        f"lora/{other}/d1/1/up", f"lora/{other}/+/+/up", "lora/+/+/+/up", "lora/#", "#", "+/#",
    ]  # fmt: skip
    return [*plain, *(f"$share/group/{one}" for one in plain)]


def topics_into(other: str) -> list[str]:
    return [
        f"testbed/{other}/d1/climate", f"testbed/{other}/d9/x", f"feeds/{other}/d1/climate", f"feedback/{other}/d1",
        f"lora/{other}/d1/1/up", f"testbed/{other}", "testbed/nobody/x/y",
    ]  # fmt: skip


async def rejected_subscriptions(client: aiomqtt.Client, filters: list[str]) -> set[str]:
    rejected = set()
    for one in filters:
        codes = await client.subscribe(one, qos=1)
        if all(code == REJECTED for code in codes):
            rejected.add(one)
    return rejected


@pytest.mark.parametrize(("own", "other"), PAIRS)
async def test_no_subscription_reaches_another_startup(stack: Stack, own: str, other: str) -> None:
    """Neither a startup's account nor its devices get any subscription into another's topics, plain, by wildcard or
    shared."""
    for user in (own, f"{own}.d1"):
        async with stack.client(user) as client:
            asked = filters_into(other)
            assert await rejected_subscriptions(client, asked) == set(asked)


@pytest.mark.parametrize(("own", "other"), PAIRS)
async def test_no_message_gets_into_another_startup(stack: Stack, own: str, other: str) -> None:
    """Nothing that a startup or its device publishes on another's topics arrives anywhere."""
    async with stack.client("gateway") as gateway, listening_everywhere(stack, other) as heard:
        await gateway.subscribe("testbed/#", qos=1)
        await gateway.subscribe(f"lora/{other}/+/+/up", qos=1)
        for user in (own, f"{own}.d1"):
            for topic in topics_into(other):
                await stack.attempt(user, topic, user.encode())
        async with stack.client(f"{other}.d1") as honest:
            await honest.publish(f"testbed/{other}/d1/climate", b"last", qos=1)
        async with asyncio.timeout(WITHIN):
            assert (await anext(gateway.messages)).payload == b"last"
            await eventually(lambda: heard)
        assert set(heard) == {b"last"}


@asynccontextmanager
async def listening_everywhere(stack: Stack, slug: str) -> AsyncIterator[list[object]]:
    """Collect all that a startup's own account receives."""
    heard: list[object] = []

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            heard.append(message.payload)  # noqa: PERF401  # it never ends: seen as it comes

    async with stack.client(slug) as client:
        for root in ("testbed", "feeds", "feedback"):
            await client.subscribe(f"{root}/{slug}/#", qos=1)
        task = asyncio.create_task(listen(client))
        yield heard
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("slug", SLUGS)
async def test_nobody_is_the_gateway_or_the_admin(stack: Stack, slug: str) -> None:
    """No account of a startup may write its own feeds or feedback, or administer the broker."""
    own = [f"feeds/{slug}/d1/climate", f"feedback/{slug}/d1", "$CONTROL/dynamic-security/v1"]
    async with stack.client(slug) as listener:
        await listener.subscribe(f"feeds/{slug}/#", qos=1)
        await listener.subscribe(f"feedback/{slug}/#", qos=1)
        for user in (slug, f"{slug}.d1"):
            for topic in own:
                await stack.attempt(user, topic, TAKEOVER)
            async with stack.client(user) as client:
                assert await rejected_subscriptions(client, ["$CONTROL/#", "$SYS/#"]) == {"$CONTROL/#", "$SYS/#"}
        async with stack.client("gateway") as gateway:  # it is still there, and it alone may write
            await gateway.publish(f"feeds/{slug}/d1/climate", b"from the gateway", qos=1)
        async with asyncio.timeout(WITHIN):
            assert (await anext(listener.messages)).payload == b"from the gateway"


@asynccontextmanager
async def session(stack: Stack, user: str) -> AsyncIterator[aiomqtt.Client]:
    """A persistent session of a name that everybody may know, as the gateway keeps one."""
    lasting: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # of paho
    lasting.SessionExpiryInterval = 3600
    async with connect(
        stack.broker,
        identifier="testbed-gateway",
        username=user,
        password=stack.passwords[user],
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=lasting,
    ) as client:
        yield client


@pytest.mark.parametrize(("own", "other"), PAIRS)
async def test_a_session_taken_over_reveals_nothing(stack: Stack, own: str, other: str) -> None:
    """A client that connects with the client id of the gateway gets its session, and nothing that others have
    published: neither what waited in it, nor what comes."""
    async with session(stack, "gateway") as gateway:
        await gateway.subscribe("testbed/#", qos=1)
    async with stack.client(f"{other}.d1") as device:
        await device.publish(f"testbed/{other}/d1/climate", b"waiting", qos=1)
        async with session(stack, own) as thief:
            await device.publish(f"testbed/{other}/d1/climate", b"now", qos=1)
            async with stack.client(f"{own}.d1") as mine:
                await mine.publish(f"testbed/{own}/d1/climate", b"its own", qos=1)
            async with asyncio.timeout(WITHIN):
                assert (await anext(thief.messages)).payload == b"its own"


@pytest.mark.parametrize("slug", SLUGS)
async def test_everybody_may_do_their_own(stack: Stack, slug: str) -> None:
    """A device publishes its own topics, also those outside testbed/, and reads its own feedback; a device is kept
    out of its neighbour's."""
    device = f"{slug}.d1"
    async with stack.client(device) as client, stack.client("gateway") as gateway:
        assert await rejected_subscriptions(client, [f"feedback/{slug}/d1"]) == set()
        neighbours = [f"feedback/{slug}/d2", f"testbed/{slug}/d2/climate", f"feedback/{slug}/#"]
        assert await rejected_subscriptions(client, neighbours) == set(neighbours)
        assert await rejected_subscriptions(gateway, ["testbed/#", f"lora/{slug}/+/+/up"]) == set()
        await stack.attempt(device, f"testbed/{slug}/d2/climate", b"not mine")
        await client.publish(f"testbed/{slug}/d1/climate", b"mine", qos=1)
        await client.publish(f"lora/{slug}/d1/7/up", b"mine too", qos=1)
        async with asyncio.timeout(WITHIN):
            got = {(await anext(gateway.messages)).payload for _ in range(2)}
    assert got == {b"mine", b"mine too"}


async def test_a_second_plan_has_no_step(broker: SecureMosquitto) -> None:
    """What was applied is not planned again; each account's credentials are reported once."""
    first = await planned(broker)
    *made, last = first.steps
    assert {step.action for step in made} == {"create"}
    assert last.changes == ("publishClientReceive: True → False",)
    credentials = await provision(broker)
    assert {one.name for one in credentials} == {*SLUGS, *(f"{s}.{d}" for s in SLUGS for d in ("d1", "d2"))}
    assert (await planned(broker)).is_done
    assert await provision(broker) == []


async def test_a_failed_run_is_continued_by_the_next(broker: SecureMosquitto) -> None:
    """A run that ended after a few steps is finished by the next; the plan in between shows exactly the rest."""
    server = admin(broker)
    plan = await run.plan(CONFIG, [server])
    half = Plan(plan.steps[:5])
    await run.apply(half, [server], lambda _step: None)
    await server.close()
    rest = await planned(broker)
    assert rest.steps == plan.steps[5:]
    await provision(broker)
    assert (await planned(broker)).is_done


async def test_a_new_device_is_one_role_and_one_client(broker: SecureMosquitto) -> None:
    """A device that is added gets its own role and account, and nothing else changes."""
    await provision(broker)
    more = configuration(startup("acme", "d1", "d2", "d3"), *CONFIG.startups[1:])
    plan = await planned(broker, more)
    assert [str(step) for step in plan.steps] == ["+ mosquitto role acme.d3", "+ mosquitto client acme.d3"]


async def test_only_prune_removes_and_only_ours(broker: SecureMosquitto) -> None:
    """A startup that is gone is reported as left over; --prune removes it, and leaves what others made."""
    await broker.control({"command": "createRole", "rolename": "somebody-elses"})
    await provision(broker)
    fewer = configuration(*CONFIG.startups[:2])
    plan = await planned(broker, fewer)
    assert {resource.name for resource in plan.leftover} == {"greenbed", "greenbed.d1", "greenbed.d2"}
    assert "remove" not in {step.action for step in plan.steps}
    await provision(broker, fewer, prune=True)
    roles = (await broker.control({"command": "listRoles"}))["roles"]
    assert "somebody-elses" in roles
    assert not {"greenbed", "greenbed.d1"} & set(roles)


async def test_a_removed_startup_leaves_nothing_behind(broker: SecureMosquitto) -> None:
    """With a startup goes all that it ever got, also the account of a device that its file names no more; and nothing
    of another startup, whatever of that is left over."""
    await provision(broker)
    before = configuration(startup("acme", "d1"), startup("voltwise", "d1"), CONFIG.startups[2])
    server = admin(broker)
    plan = await cohorts.revocation(before, configuration(*before.startups[1:]), ["acme"], [server], delete_data=True)
    await server.close()
    removed = {step.resource.name for step in plan.steps if step.action == "remove"}
    assert removed == {"acme", "acme.d1", "acme.d2"}
    assert {resource.name for resource in plan.leftover} == {"voltwise.d2"}


async def test_an_object_made_by_others_is_a_conflict(broker: SecureMosquitto) -> None:
    """A role of a wanted name that provisioning did not make is reported and left alone."""
    await broker.control({"command": "createRole", "rolename": "acme"})
    plan = await planned(broker)
    assert [conflict.resource.name for conflict in plan.conflicts] == ["acme"]
    assert "rename or remove it" in str(plan.conflicts[0])


async def test_nobody_gets_a_role_that_others_made(broker: SecureMosquitto) -> None:
    """A startup that is called like a role of somebody else gets no account that holds it. Mosquitto 2.1 itself makes
    some, `super-admin` among them."""
    wide = {"acltype": "publishClientSend", "topic": "#", "allow": True}
    await broker.control({"command": "createRole", "rolename": "super-admin", "acls": [wide]})
    config = configuration(startup("super-admin"), *CONFIG.startups)
    assert {one.startup for one in await provision(broker, config)} == set(SLUGS)
    plan = await planned(broker, config)
    assert [conflict.resource.name for conflict in plan.conflicts] == ["super-admin"]
    assert plan.steps == ()


async def test_external_changes_are_reverted(broker: SecureMosquitto) -> None:
    """An ACL that somebody added to a role of ours shows in the plan as a change, and is gone after the apply."""
    await provision(broker)
    wide = {"acltype": "subscribePattern", "topic": "#", "allow": True, "priority": 0}
    await broker.control({"command": "addRoleACL", "rolename": "acme", **wide})
    (step,) = (await planned(broker)).steps
    assert step.changes == ("- acls: subscribePattern #",)
    await provision(broker)
    assert (await planned(broker)).is_done


async def test_a_wrong_admin_password_is_reported(broker: SecureMosquitto) -> None:
    """The error says whose password to check."""
    server = admin(broker, "wrong")
    with pytest.raises(AdminRejected, match="check the admin's name and password"):
        await server.actual(CONFIG)
    await server.close()


@pytest.mark.parametrize("left", [None, "of another broker"])
async def test_a_stale_password_of_the_gateway_is_made_anew(broker: SecureMosquitto, left: str | None) -> None:
    """Where the gateway's own password is lost, or is not the one that the broker knows, the plan shows it and the
    apply makes another one, which works."""
    await provision(broker)
    if left is None:
        await asyncio.to_thread(secret_files(broker).forget, GATEWAY_PASSWORD)
    else:
        await asyncio.to_thread(secret_files(broker).write, GATEWAY_PASSWORD, left)
    (step,) = (await planned(broker)).steps
    assert str(step) == "~ mosquitto client gateway"
    assert await provision(broker) == []
    password = await asyncio.to_thread(secret_files(broker).read, GATEWAY_PASSWORD)
    async with connect(broker, username="gateway", password=password):
        assert (await planned(broker)).is_done


async def test_an_unreachable_broker_is_reported(tmp_path: Path) -> None:
    """The error says where nobody answered."""
    port = free_port()
    server = MosquittoServer(Broker("127.0.0.1", port), ADMIN, "x", SecretFiles(tmp_path))
    with pytest.raises(ServerUnreachable, match=str(port)):
        await server.actual(CONFIG)
    await server.close()


async def test_a_broker_without_the_plugin_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mosquitto that does not load the plugin answers nothing: the error says what to look at."""
    monkeypatch.setattr("gateway.provision.mosquitto.ANSWER_WITHIN", 0.3)
    async with Mosquitto(tmp_path) as plain:
        server = admin(plain)
        with pytest.raises(ProvisionError, match="dynamic security plugin"):
            await server.actual(CONFIG)
        await server.close()
