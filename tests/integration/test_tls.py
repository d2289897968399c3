"""TLS on real servers: the gateway to its broker, devices by certificate on Mosquitto, HTTPS. See docs/tls.md."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import httpx
import pytest

from gateway.cli.http_client import Client
from gateway.config import Config, Mqtt, Settings, Startup, load
from gateway.errors import GatewayUnreachable
from gateway.mqtt.broker import Broker
from gateway.mqtt.session import Access
from gateway.mqtt.sessions import Sessions
from gateway.provision import run
from gateway.provision.mosquitto import MosquittoServer
from gateway.provision.secret_files import SecretFiles
from tests.builders import session_plan
from tests.running import OPERATOR, Running, running, write_config
from tests.servers import WITHIN, Mosquitto, eventually, free_port
from tests.servers.certificates import Authority, Certificate
from tests.servers.dynsec import ADMIN, ADMIN_PASSWORD, SecureMosquitto
from tests.servers.mqtt_clients import connect

REJECTED = 128
# paho-mqtt drops a socket whose handshake failed without closing it; it is closed as it is collected, at once
HANDSHAKE = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody here should trust."""
    return Authority(tmp_path_factory.mktemp("stranger"), "somebody else")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Certificate:
    return authority.server()


def listener(authority: Authority, server: Certificate, *more: str) -> str:
    """Return the lines of mosquitto.conf that make a listener speak TLS."""
    lines = (f"cafile {authority.cert}", f"certfile {server.cert}", f"keyfile {server.key}", *more)
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def connected(broker: Mosquitto, **settings: object) -> AsyncIterator[Sessions]:
    """Run the gateway's sessions with a broker, by the name that is in the broker's certificate."""
    wanted = Mqtt.model_validate({"url": f"mqtts://localhost:{broker.port}", **settings})
    one = Sessions(Access.of(wanted), session_plan({"acme": ["testbed/acme/#"]}), {})
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def problem(broker: Mosquitto, **settings: object) -> str:
    """Return what the sessions report after their first try; they must not have been let in."""
    async with connected(broker, **settings) as one:
        await eventually(lambda: one.state.problem != "not connected yet", says="the session has tried")
        assert not one.state.connected
        return one.state.problem


# ---------------------------------------------------------------------- the gateway and its broker


@pytest.fixture
async def broker(tmp_path: Path, authority: Authority, server: Certificate) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path, conf=listener(authority, server)) as made:
        yield made


@pytest.fixture
async def strict(tmp_path: Path, authority: Authority, server: Certificate) -> AsyncIterator[Mosquitto]:
    """A broker that requires a certificate of everybody."""
    async with Mosquitto(tmp_path, conf=listener(authority, server, "require_certificate true")) as made:
        yield made


@pytest.mark.parametrize("protocol", ["3.1.1", "5", "auto"])
async def test_the_gateway_connects_over_mqtts(broker: Mosquitto, authority: Authority, protocol: str) -> None:
    """With the authority of the broker's certificate in mqtt.ca_file the session connects, and messages arrive."""
    async with connected(broker, ca_file=authority.cert, protocol=protocol) as one:
        await eventually(lambda: one.state.connected)
        trusting = ssl.create_default_context(cafile=authority.cert)
        async with connect(broker, host="localhost", tls_context=trusting) as device:
            await device.publish("testbed/acme/d1/climate", b"{}", qos=1)
        assert await taken(one, 1) == [b"{}"]


async def taken(sessions: Sessions, count: int) -> list[bytes]:
    """Return the payloads of so many messages, each acknowledged."""
    payloads: list[bytes] = []
    async with asyncio.timeout(WITHIN):
        while len(payloads) < count and await sessions.arrived():
            for name, source in list(sessions.ready.items()):
                while batch := source.take(count):
                    payloads += [message.payload for message in batch.messages]
                    source.ack(batch)
                del sessions.ready[name]
                source.resume()
    return payloads


async def test_many_messages_arrive_over_tls(broker: Mosquitto, authority: Authority) -> None:
    """A burst arrives whole: what TLS has decrypted and no selector reports is read as well."""
    async with connected(broker, ca_file=authority.cert) as one, asyncio.timeout(WITHIN):
        await eventually(lambda: one.state.connected)
        trusting = ssl.create_default_context(cafile=authority.cert)
        async with connect(broker, host="localhost", tls_context=trusting) as device:
            await asyncio.gather(*(device.publish("testbed/acme/d1/x", b"x" * 100, qos=1) for _ in range(2000)))
        assert len(await taken(one, 2000)) == 2000


@HANDSHAKE
async def test_an_authority_that_is_not_the_brokers_is_reported(broker: Mosquitto, stranger: Authority) -> None:
    """With another authority in mqtt.ca_file, or none, nobody is let in, and the state says that trust is missing."""
    for settings in ({"ca_file": stranger.cert}, {}):
        assert "certificate verify failed" in await problem(broker, **settings)


@HANDSHAKE
async def test_a_broker_under_another_name_is_reported(tmp_path: Path, authority: Authority) -> None:
    """The name in mqtt.url must be one of the names in the broker's certificate."""
    other = authority.server("broker.example")
    async with Mosquitto(tmp_path, conf=listener(authority, other)) as made:
        assert "not valid for 'localhost'" in await problem(made, ca_file=authority.cert)


async def test_plain_mqtt_to_a_tls_port_is_reported(broker: Mosquitto) -> None:
    """mqtt:// where the broker speaks TLS ends in a problem that names the broker, and not in silence."""
    assert f"127.0.0.1:{broker.port}" in await problem(broker, url=broker.url)


async def test_a_broker_that_requires_a_certificate_gets_the_gateways(strict: Mosquitto, authority: Authority) -> None:
    """With mqtt.cert_file and mqtt.key_file of the broker's authority the session connects."""
    own = authority.client("gateway")
    async with connected(strict, ca_file=authority.cert, cert_file=own.cert, key_file=own.key) as one:
        await eventually(lambda: one.state.connected)


async def test_a_missing_or_strange_client_certificate_is_reported(
    strict: Mosquitto, authority: Authority, stranger: Authority
) -> None:
    """Without a certificate, and with one of a strange authority, the broker ends the connection, and the state says
    so."""
    strange = stranger.client("gateway")
    for settings in ({}, {"cert_file": strange.cert, "key_file": strange.key}):
        assert "closed the connection" in await problem(strict, ca_file=authority.cert, **settings)


# ---------------------------------------------------------------------- devices that sign in by certificate


def startup(slug: str) -> Startup:
    rule = {"topic": f"testbed/{slug}/{{device}}/climate", "fields": {"t": {"type": "float"}}}
    return Startup.model_validate(
        {"slug": slug, "name": slug.title(), "devices": ["d1", "d2"], "topics": {"climate": rule}}
    )


CONFIG = Config(settings=Settings(), startups=(startup("acme"), startup("voltwise")))


class Field:
    """A provisioned Mosquitto: its plain listener for the admin and the gateway, another one for devices with
    certificates."""

    def __init__(self, directory: Path, authority: Authority, server: Certificate) -> None:
        self.port = free_port()
        by_certificate = listener(authority, server, "require_certificate true", "use_identity_as_username true")
        self.broker = SecureMosquitto(directory, conf=f"listener {self.port} 127.0.0.1\n{by_certificate}")
        # `listener` among the further lines takes the place of the one that it always has
        self.broker.conf = f"listener {self.broker.port} 127.0.0.1\n{self.broker.conf}"
        self._authority = authority
        self._secret_files = SecretFiles(directory / "secrets")
        self._gateways: str | None = None

    async def provision(self) -> None:
        admin = MosquittoServer(Broker("127.0.0.1", self.broker.port), ADMIN, ADMIN_PASSWORD, self._secret_files)
        try:
            plan = await run.plan(CONFIG, [admin])
            applied = await run.apply(plan, [admin], lambda _step: None)
        finally:
            await admin.close()
        assert applied.problem == ""
        self._gateways = await asyncio.to_thread(self._secret_files.read, "mqtt-gateway")

    def gateway(self) -> aiomqtt.Client:
        return connect(self.broker, username="gateway", password=self._gateways)

    def device(
        self, certificate: Certificate, username: str | None = None, password: str | None = None
    ) -> aiomqtt.Client:
        """A device with its certificate, and mostly nothing else."""
        trust = ssl.create_default_context(cafile=self._authority.cert)
        trust.load_cert_chain(certificate.cert, certificate.key)
        return connect(self, host="localhost", username=username, password=password, tls_context=trust)

    async def attempt(
        self, certificate: Certificate, topic: str, username: str | None = None, password: str | None = None
    ) -> None:
        """Publish what is forbidden: Mosquitto acknowledges and drops it, or ends the connection."""
        with suppress(aiomqtt.MqttError):
            async with self.device(certificate, username, password) as client:
                await client.publish(topic, b"forbidden", qos=1)

    async def arrives_first(self, gateway: aiomqtt.Client, certificate: Certificate) -> bytes:
        """Return what the gateway gets first, after the device has sent `mine` on its own topic."""
        async with self.device(certificate) as client:
            await client.publish("testbed/acme/d1/climate", b"mine", qos=1)
        async with asyncio.timeout(WITHIN):
            payload = (await anext(gateway.messages)).payload
        assert isinstance(payload, bytes)
        return payload


async def rejected(client: aiomqtt.Client, topic_filter: str) -> bool:
    return all(code == REJECTED for code in await client.subscribe(topic_filter))


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, authority: Authority, server: Certificate) -> Iterator[Field]:
    with asyncio.Runner() as runner:
        made = Field(tmp_path_factory.mktemp("field"), authority, server)
        runner.run(made.broker.start())
        runner.run(made.provision())
        yield made
        runner.run(made.broker.stop())


@pytest.fixture(scope="module")
def d1(authority: Authority) -> Certificate:
    return authority.client("acme.d1")


async def test_a_device_publishes_by_its_certificate(field: Field, d1: Certificate) -> None:
    """A certificate whose CN is the device's account may publish its own topics, without any password, and nobody
    else's."""
    async with field.gateway() as gateway:
        await gateway.subscribe("testbed/#", qos=1)
        for topic in ("testbed/acme/d2/climate", "testbed/voltwise/d1/climate", "feeds/acme/d1/climate"):
            await field.attempt(d1, topic)
        assert await field.arrives_first(gateway, d1) == b"mine"


async def test_a_device_reads_its_own_feedback_by_its_certificate(field: Field, d1: Certificate) -> None:
    """It may subscribe to its own feedback and to nothing else."""
    async with field.device(d1) as client:
        assert not await rejected(client, "feedback/acme/d1")
        for other in ("feedback/acme/d2", "feedback/voltwise/d1", "testbed/#", "#", "$CONTROL/#"):
            assert await rejected(client, other)


async def test_a_certificate_does_not_lead_to_another_name(field: Field, d1: Certificate) -> None:
    """The CN counts, whatever name and password are sent with it."""
    async with field.gateway() as gateway:
        await gateway.subscribe("testbed/#", qos=1)
        await field.attempt(d1, "testbed/acme/d2/climate", ADMIN, ADMIN_PASSWORD)
        async with field.device(d1, ADMIN, ADMIN_PASSWORD) as client:
            assert await rejected(client, "$CONTROL/#")
        assert await field.arrives_first(gateway, d1) == b"mine"


async def test_a_certificate_without_an_account_may_do_nothing(
    field: Field, authority: Authority, d1: Certificate
) -> None:
    """A CN that no account has is of no use, though the authority is the right one."""
    nobody = authority.client("acme.d9")
    async with field.gateway() as gateway:
        await gateway.subscribe("testbed/#", qos=1)
        await field.attempt(nobody, "testbed/acme/d9/climate")
        assert await field.arrives_first(gateway, d1) == b"mine"


async def test_a_deleted_account_locks_its_certificate_out(
    tmp_path: Path, authority: Authority, server: Certificate, d1: Certificate
) -> None:
    """Deleting the account is what locks a device out that signs in by certificate: no password would be asked for."""
    field = Field(tmp_path, authority, server)
    async with field.broker:
        await field.provision()
        await field.broker.control({"command": "deleteClient", "username": "acme.d1"})
        d2 = authority.client("acme.d2")
        async with field.gateway() as gateway, field.device(d2) as neighbour:
            await gateway.subscribe("testbed/#", qos=1)
            await field.attempt(d1, "testbed/acme/d1/climate")
            await neighbour.publish("testbed/acme/d2/climate", b"of d2", qos=1)
            async with asyncio.timeout(WITHIN):
                assert (await anext(gateway.messages)).payload == b"of d2"


async def test_a_certificate_of_a_strange_authority_is_rejected(
    field: Field, authority: Authority, stranger: Authority
) -> None:
    """The right CN from the wrong authority does not get in, nor does a device without a certificate."""
    false, right = stranger.client("acme.d1"), authority.client("acme.d1")
    for certificate, is_let_in in ((None, False), (false, False), (right, True)):
        trust = ssl.create_default_context(cafile=authority.cert)
        trust.maximum_version = ssl.TLSVersion.TLSv1_2  # here the server's rejection is part of the handshake
        if certificate:
            trust.load_cert_chain(certificate.cert, certificate.key)
        assert await shakes_hands(field.port, trust) is is_let_in


async def shakes_hands(port: int, trust: ssl.SSLContext) -> bool:
    try:
        _, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    except (ssl.SSLError, ConnectionError):
        return False
    writer.transport.abort()
    return True


# ---------------------------------------------------------------------- HTTPS


@pytest.fixture
async def https(tmp_path: Path, server: Certificate) -> AsyncIterator[tuple[Path, Running]]:
    """The configuration of a gateway that serves HTTPS by itself, and the gateway."""
    async with Mosquitto(tmp_path) as broker:
        http = {"listen": "127.0.0.1:0", "cert_file": str(server.cert), "key_file": str(server.key), "console": False}
        config = write_config(tmp_path / "config", broker.url, http=http)
        async with running(config) as gateway:
            yield config, gateway


async def test_the_gateway_serves_https_by_itself(https: tuple[Path, Running], authority: Authority) -> None:
    """With http.cert_file and http.key_file the API is there over HTTPS, for whoever trusts its authority."""
    _, gateway = https
    assert gateway.url.startswith("https://")
    trust = ssl.create_default_context(cafile=authority.cert)
    async with httpx.AsyncClient(base_url=gateway.url, verify=trust) as client:
        assert (await client.get("/healthz")).json() == {"ok": True}
        wanted = {"Authorization": f"Bearer {OPERATOR}"}
        assert (await client.get("/v1/startups/acme/devices", headers=wanted)).status_code == 200


async def test_https_is_all_there_is(https: tuple[Path, Running]) -> None:
    """A client that does not trust the certificate gets no answer, and plain HTTP gets none on that port."""
    _, gateway = https
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"{gateway.url}/healthz")
        with pytest.raises(httpx.TransportError):
            await client.get(f"{gateway.url.replace('https', 'http')}/healthz")


async def test_the_command_line_speaks_https(
    https: tuple[Path, Running], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gateway status` reaches it when SSL_CERT_FILE names the authority, and says what is wrong when it does not."""
    config, gateway = https
    client = Client(await asyncio.to_thread(load, config), url=gateway.url)
    assert client.url == gateway.url
    with pytest.raises(GatewayUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        await asyncio.to_thread(client.post, "/v1/none", {})
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    assert (await asyncio.to_thread(client.ready) or {})["ready"] is True
