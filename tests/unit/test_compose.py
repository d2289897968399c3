"""docker-compose.yml, checked without Docker: pinned, private, no secret with a default; its parts run for real."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiomqtt
import mqtt5
import pytest
from ruamel.yaml import YAML

import gateway.cli.options
import gateway.config.credentials
import gateway.provision.run
from gateway.config import Config, Mqtt, Quota, load
from gateway.provision.mosquitto import TOPIC as DYNSEC
from gateway.provision.secret_files import SecretFiles
from gateway.provision.settings import ProvisionSettings, load_provision
from tests.servers import WITHIN, ServerFailed, find, need
from tests.servers.dynsec import ADMIN
from tests.servers.mqtt_clients import connect
from tests.servers.stack_mosquitto import ADMIN_PASSWORD, MOSQUITTO, StackMosquitto

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
STACK: Mapping[str, Any] = YAML(typ="safe").load(COMPOSE)
SERVICES: Mapping[str, Mapping[str, Any]] = STACK["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

OURS = "testbed-gateway:local"
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET")
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?+])([^}]*))?\}")
PINNED = re.compile(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.]+)?")
MAX_TOPIC = 65_535
"""Bytes of the longest topic of MQTT."""

each_service = pytest.mark.parametrize("name", SERVICES)


def is_once(name: str) -> bool:
    """Whether somebody waits for the service to end."""
    waits = [one.get("depends_on", {}).get(name, {}) for one in SERVICES.values()]
    return any(wait.get("condition") == "service_completed_successfully" for wait in waits)


def strings(value: Any) -> Iterator[str]:
    """Every text in a part of the file."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def variables() -> list[tuple[str, str, str]]:
    """Name, operator and default or message of every ${...} in the file."""
    return [match for text in strings(STACK) for match in VARIABLE.findall(text)]


def example() -> dict[str, str]:
    lines = [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def mounts(name: str) -> list[tuple[str, str, str]]:
    """Source, target and mode of what a service mounts."""
    several = [str(one).split(":") for one in SERVICES[name].get("volumes", [])]
    assert all(len(parts) in (2, 3) for parts in several), "a source and a target, or it is an anonymous volume"
    return [(parts[0], parts[1], parts[2] if len(parts) == 3 else "rw") for parts in several]


# ---------------------------------------------------------------------- the file


@each_service
def test_every_image_is_pinned(name: str) -> None:
    """An image has at least its major and minor version in its tag, or is built here."""
    service = SERVICES[name]
    if "build" in service:
        assert (service["image"], service["build"]) == (OURS, ".")
    else:
        assert PINNED.fullmatch(service["image"])


@each_service
def test_every_service_reports_its_health(name: str) -> None:
    """Each has a health check with a bound, or runs once and is not started again."""
    service = SERVICES[name]
    if is_once(name):
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


@each_service
def test_python_in_a_health_check_is_python(name: str) -> None:
    """A check that is a line of Python can be read by Python."""
    test = SERVICES[name].get("healthcheck", {}).get("test", [])
    if "python" in test:
        compile(test[-1], name, "exec")


def test_the_devices_are_well_while_they_are_connected() -> None:
    """Their check finds an established connection to the broker's port in the kernel's table, and none that ended."""
    command = SERVICES["devices"]["healthcheck"]["test"][1:]
    assert f":{1884:04X} 01 " in command
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = [part.replace(":075C", f":{port:04X}") for part in command]
        assert subprocess.run(here, check=False).returncode == 1
        with socket.create_connection(("127.0.0.1", port)):
            assert subprocess.run(here, check=False).returncode == 0


@each_service
def test_every_dependency_can_come_true(name: str) -> None:
    """Each condition is of a service that there is, and can come true; who is always there waits for nobody who is
    not."""
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert wait["condition"] == ("service_completed_successfully" if is_once(other) else "service_healthy")
        assert set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


def test_nothing_listens_outside_this_machine_unless_asked() -> None:
    """Every published port is bound to BIND, which is 127.0.0.1 unless .env says otherwise."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    for port in ports:
        assert re.fullmatch(r"\$\{BIND:-127\.0\.0\.1\}:(\d+):\1", port)
    assert example()["BIND"] == "127.0.0.1"
    assert all("network_mode" not in service and "privileged" not in service for service in SERVICES.values())


def test_no_secret_has_a_default() -> None:
    """Every secret must be given, with a message that says where; none stands in the files."""
    required = {name for name, operator, _ in variables() if operator == ":?"}
    wanted = {secret["environment"] for secret in STACK["secrets"].values()}
    assert {name for name, _, _ in variables() if SECRET.search(name)} | wanted == required
    assert all(".env" in message for _, operator, message in variables() if operator == ":?")
    assert {name for name, value in example().items() if not value} == required
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key):
                assert VARIABLE.fullmatch(value) or value.startswith("/run/secrets/") or value == "true"


def test_each_secret_is_used_and_each_that_is_used_is_there() -> None:
    """A service names only secrets that the file has, and none is left over; a path below /run/secrets is one of the
    service's own."""
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == STACK["secrets"].keys()
    for service in SERVICES.values():
        paths = [text for text in strings(service.get("environment", {})) if text.startswith("/run/secrets/")]
        assert {Path(path).name for path in paths} <= set(service.get("secrets", []))


def test_the_example_has_every_variable() -> None:
    """.env.example names exactly the variables that the file uses, with the same defaults."""
    used = {name for name, _, _ in variables()} | {one["environment"] for one in STACK["secrets"].values()}
    assert example().keys() == used
    for name, operator, default in variables():
        if operator == ":-":
            assert example()[name] == default


def test_volumes_have_names_and_mounted_files_are_there() -> None:
    """Each mount is a named volume, or a file of this repository that nothing in the container can change; but that
    provisioning may write startups' files, as `startups add` does."""
    used = set()
    for name in SERVICES:
        for source, target, mode in mounts(name):
            assert target.startswith("/")
            if source.startswith("./"):
                assert (ROOT / source).exists()
                assert mode == ("rw" if (name, source) == ("provision", "./config/startups") else "ro")
            else:
                used.add(source)
    assert used == STACK["volumes"].keys()


def test_no_image_makes_a_volume_without_a_name() -> None:
    """What the images declare as a volume has a mount (as of their Dockerfiles)."""
    declared = {
        "eclipse-mosquitto": {"/mosquitto/data", "/mosquitto/log"},
        "influxdb": {"/var/lib/influxdb2", "/etc/influxdb2"},
    }
    for name, service in SERVICES.items():
        covered = {target for _, target, _ in mounts(name)} | set(service.get("tmpfs", []))
        assert declared.get(service["image"].split(":")[0], set()) <= covered


@pytest.mark.parametrize("setting", ["HARDENING_ENABLED", "PPROF_DISABLED", "METRICS_DISABLED", "USE_HASHED_TOKENS"])
def test_influxdb_is_hardened(setting: str) -> None:
    """It shows nobody its profiles and metrics, asks no private address for a query, and stores no token."""
    assert SERVICES["influxdb"]["environment"][f"INFLUXD_{setting}"] == "true"


def test_nothing_is_anonymous_and_nothing_calls_home() -> None:
    """Grafana lets nobody in without an account, and neither it nor InfluxDB reports to its maker."""
    grafana, influxdb = SERVICES["grafana"]["environment"], SERVICES["influxdb"]["environment"]
    for off in ("AUTH_ANONYMOUS_ENABLED", "USERS_ALLOW_SIGN_UP", "USERS_ALLOW_ORG_CREATE", "NEWS_NEWS_FEED_ENABLED"):
        assert grafana[f"GF_{off}"] == "false"
    for off in ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES"):
        assert grafana[f"GF_ANALYTICS_{off}"] == "false"
    assert grafana["GF_PLUGINS_PREINSTALL_DISABLED"] == influxdb["INFLUXD_REPORTING_DISABLED"] == "true"


@each_service
def test_no_service_may_become_more_than_it_is(name: str) -> None:
    """None gains privileges; all but InfluxDB, whose entry point changes its user, have no capabilities at all."""
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES[name].get("cap_drop", []) == ([] if name == "influxdb" else ["ALL"])


def test_only_provisioning_has_the_admins_secrets() -> None:
    """The gateway is given its operators' token alone, and may only read what provisioning wrote for it."""
    assert SERVICES["gateway"]["environment"].keys() == {"GATEWAY_OPERATOR_TOKEN"}
    assert "secrets" not in SERVICES["gateway"]
    assert ("secrets", "/secrets", "ro") in mounts("gateway")
    assert ("secrets", "/secrets", "rw") in mounts("provision")


@pytest.mark.parametrize("name", ["gateway", "provision"])
def test_every_variable_is_one_that_the_gateway_reads(name: str) -> None:
    """What a service of ours gets as its environment stands in the code that reads it."""
    modules = (gateway.config.credentials, gateway.provision.run, gateway.cli.options)
    code = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)
    for variable in SERVICES[name]["environment"]:
        assert f'"{variable}"' in code


def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    """`docker compose config` finds nothing wrong, where it is installed; a missing secret is reported by name."""
    if not _has_compose():
        pytest.skip("the compose plugin of docker is not installed")
    given = os.environ | dict.fromkeys(example(), "x")
    command = [
        "docker",
        "compose",
        "--file",
        str(ROOT / "docker-compose.yml"),
        "--env-file",
        os.devnull,
        "config",
        "-q",
    ]
    subprocess.run(command, env=given, check=True)
    without = given | {"GRAFANA_ADMIN_PASSWORD": ""}
    failed = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "GRAFANA_ADMIN_PASSWORD" in failed.stderr


def _has_compose() -> bool:
    if find("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def test_the_command_in_the_example_makes_an_env_file(tmp_path: Path) -> None:
    """The command in .env.example fills in every secret, each with another one, for its owner alone."""
    need("openssl")
    (command,) = re.findall(r"^#   (\(umask .*\))$", EXAMPLE, flags=re.MULTILINE)
    shutil.copy(ROOT / ".env.example", tmp_path)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    values = dict(line.split("=", 1) for line in made.read_text().splitlines() if line and not line.startswith("#"))
    secrets = [values[name] for name, value in example().items() if not value]
    assert len(set(secrets)) == len(secrets)
    assert all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in secrets)
    assert values["BIND"] == "127.0.0.1"


# ---------------------------------------------------------------------- the image


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    """Its base has a version, its last user is not root, and its directories of state belong to that user alone."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert bases
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    assert re.findall(r"^USER (\S+)", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]
    assert "--uid 10001" in DOCKERFILE
    assert "--mode=0700 /state /secrets" in DOCKERFILE
    ours = {target for name in ("gateway", "provision") for source, target, _ in mounts(name) if source[0] != "."}
    assert ours == {"/state", "/secrets"}
    assert all("user" not in service for service in SERVICES.values() if service["image"] == OURS)


def test_the_image_holds_no_secret_and_all_that_it_needs() -> None:
    """No secret is copied or set; the locked packages are installed with the extras that the services need."""
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|TOKEN|SECRET)", DOCKERFILE, flags=re.MULTILINE | re.IGNORECASE)
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, flags=re.MULTILINE) for word in line.split()]
    assert set(copied) == {"requirements/image.txt", "pyproject.toml", "README.md", "LICENSE", "gateway", "devices"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
    assert re.findall(r"\[([\w,]+)\]\"", DOCKERFILE) == ["console,provision,devices"]
    assert "--require-hashes --wheel-dir /wheels -r requirements/image.txt" in DOCKERFILE


# ---------------------------------------------------------------------- the configuration that it runs with


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """/config as `provision` sees it; the gateway sees all but provision.yaml."""
    for source, target, _ in mounts("provision"):
        if target.startswith("/config/"):
            to = tmp_path / target.lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to)
            else:
                shutil.copy(ROOT / source, to)
    return tmp_path / "config"


@pytest.fixture
def config(directory: Path) -> Config:
    return load(directory)


@pytest.fixture
def provisioning(directory: Path) -> ProvisionSettings:
    return load_provision(directory)


def test_the_gateway_finds_what_provisioning_leaves(config: Config, provisioning: ProvisionSettings) -> None:
    """Password and token are secret files, with the names that provisioning gives them, in the shared volume."""
    secret_files = SecretFiles(provisioning.secrets_dir)
    assert provisioning.mosquitto
    assert config.settings.mqtt.password_file == secret_files.path("mqtt-gateway")
    assert config.settings.mqtt.username == provisioning.mosquitto.gateway_user
    assert config.settings.store.influxdb.token_file == secret_files.path("influxdb-gateway")
    assert str(secret_files.directory) == "/secrets"
    assert str(config.state_dir) == "/state"


def test_every_address_is_a_service(config: Config, provisioning: ProvisionSettings) -> None:
    """Hosts in the configuration are services, on the ports of their servers."""
    assert provisioning.mosquitto
    assert provisioning.influxdb
    assert provisioning.grafana
    assert config.settings.mqtt.url == provisioning.mosquitto.url == "mqtt://mosquitto:1884"
    influxdb = config.settings.store.influxdb.url
    assert influxdb == provisioning.influxdb.url == provisioning.grafana.influxdb_url == "http://influxdb:8086"
    assert provisioning.grafana.url == "http://grafana:3000"
    assert (config.settings.http.host, config.settings.http.port) == ("0.0.0.0", 8080)
    assert config.settings.store.kind == "influxdb"
    assert config.settings.store.influxdb.org == SERVICES["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_ORG"]
    assert SERVICES["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_BUCKET"] not in config.by_slug


def test_the_simulated_devices_are_of_startups_that_there_are(config: Config) -> None:
    """The account of the demo may publish for the sample startups, and the fleet signs in with it."""
    script = (MOSQUITTO / "demo-account.sh").read_text()
    (several,) = re.findall(r"for startup in (.*); do", script)
    assert set(several.split()) == config.by_slug.keys()
    (name,) = re.findall(r"^name=(\S+)$", script, flags=re.MULTILINE)
    assert f"mqtt://{name}@mosquitto:1884" in SERVICES["devices"]["command"]
    assert "DEVICES_PASSWORD" in SERVICES["devices"]["environment"]


# ---------------------------------------------------------------------- Mosquitto, as its container starts it


async def test_the_broker_starts_with_an_admin_and_nobody_else(tmp_path: Path) -> None:
    """The first start makes the admin with the password of the secret; nobody gets in without an account."""
    async with StackMosquitto(tmp_path) as broker:
        async with broker.client(ADMIN, ADMIN_PASSWORD) as admin:
            await admin.subscribe("$CONTROL/dynamic-security/v1/response")
        for user, password in ((None, None), (ADMIN, "wrong"), ("gateway", "")):
            with pytest.raises(aiomqtt.MqttError):
                await broker.client(user, password).__aenter__()
        assert (broker.directory / "dynamic-security.json").stat().st_mode & 0o077 == 0
        assert "Error" not in broker.log
        assert "Unknown configuration variable" not in broker.log


async def test_nobody_takes_the_gateways_session(tmp_path: Path) -> None:
    """Whatever client id somebody asks for on the listener that is published, the connection of the gateway on the
    other one stays, and that of another account as well."""
    ports = [one.rpartition(":")[2] for one in SERVICES["mosquitto"]["ports"]]
    assert ports == ["1883"]
    async with StackMosquitto(tmp_path) as broker:
        broker.make_demo_account(ADMIN_PASSWORD)

        def client(port: int, user: str) -> aiomqtt.Client:
            return aiomqtt.Client(
                broker.host, port, username=user, password=ADMIN_PASSWORD, identifier="testbed-gateway"
            )

        async with client(broker.inner_port, ADMIN) as gateway:
            await gateway.subscribe("testbed/#")
            async with client(broker.port, ADMIN), client(broker.port, "demo-devices") as device:
                await device.publish("testbed/acme/d/climate", b"heard")
                async with asyncio.timeout(WITHIN):
                    assert (await anext(gateway.messages)).payload == b"heard"


async def test_a_later_start_keeps_the_accounts(tmp_path: Path) -> None:
    """The password of the secret counts at the very first start only: what provisioning made since is kept."""
    async with StackMosquitto(tmp_path) as broker:
        before = (broker.directory / "dynamic-security.json").read_bytes()
        await broker.stop()
        broker.secret.write_text("another")
        await broker.start()
        assert (broker.directory / "dynamic-security.json").read_bytes() == before
        async with broker.client(ADMIN, ADMIN_PASSWORD):
            pass


async def test_the_broker_lets_everybody_in_after_much_administration(tmp_path: Path) -> None:
    """Megabytes of answers of the dynamic security plugin, as a season of provisioning makes them, cost nobody the
    way in. With `memory_limit` a Mosquitto 2.0 with glibc counts each as memory freed, and soon refuses everybody."""
    async with StackMosquitto(tmp_path) as broker, broker.client(ADMIN, ADMIN_PASSWORD) as admin:
        await admin.subscribe(f"{DYNSEC}/response")
        for number in range(20):
            account = {"command": "createClient", "username": f"account-{number}", "textdescription": "x" * 2000}
            assert "error" not in await _answer(admin, account)
        sizes = [len(await _answer(admin, {"command": "listClients", "verbose": True})) for _ in range(100)]
        assert sum(sizes) > 4_000_000
        async with broker.client(ADMIN, ADMIN_PASSWORD):
            pass


async def _answer(admin: aiomqtt.Client, command: Mapping[str, Any]) -> str:
    """What dynamic security answers to a command."""
    await admin.publish(DYNSEC, json.dumps({"commands": [command]}), qos=1)
    async with asyncio.timeout(WITHIN):
        return str((await anext(admin.messages)).payload)


async def test_an_empty_password_starts_nothing(tmp_path: Path) -> None:
    """Without a password for the admin the broker does not start, and says which setting is missing."""
    broker = StackMosquitto(tmp_path, password="\n")
    with pytest.raises(ServerFailed, match="MQTT_ADMIN_PASSWORD"):
        await broker.start()


async def test_the_demo_account_may_publish_for_the_samples_only(tmp_path: Path) -> None:
    """The simulated devices may publish for the sample startups and for nobody else; the account can be made again,
    with another password."""
    async with StackMosquitto(tmp_path) as broker:
        for password in ("first", "second"):
            broker.make_demo_account(password)
            async with broker.client("demo-devices", password) as client:
                assert (await client.subscribe("feedback/acme/air-01"))[0] != 128
                assert (await client.subscribe("feedback/other/air-01"))[0] == 128
                assert (await client.subscribe("testbed/#"))[0] == 128
        with pytest.raises(aiomqtt.MqttError):
            await broker.client("demo-devices", "first").__aenter__()


def broker_settings() -> dict[str, str]:
    """Settings of mosquitto.conf; of those that each listener has, the last."""
    lines = (MOSQUITTO / "mosquitto.conf").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#") and " " in line)


def test_the_broker_outlasts_the_gateways_absence(config: Config) -> None:
    """It holds half a minute of a startup at its full default quota, and keeps sessions longer than the gateway asks
    for."""
    conf, quota = broker_settings(), Quota()
    assert int(conf["max_queued_messages"]) >= quota.burst + 30 * quota.messages
    assert conf["persistence"] == "true"
    assert int(conf["autosave_interval"]) <= 60
    assert conf["allow_anonymous"] == "false"
    assert int(conf["persistent_client_expiration"].removesuffix("d")) * 86_400 > config.settings.mqtt.session_expiry
    assert "memory_limit" not in conf  # see test_the_broker_lets_everybody_in_after_much_administration


def test_the_broker_takes_the_largest_payload_and_little_more(config: Config) -> None:
    """What is a bit over quota reaches the gateway, which answers it; megabytes never do."""
    largest = max(startup.quota.payload for startup in config.startups)
    packet = int(broker_settings()["max_packet_size"])
    assert largest + MAX_TOPIC < packet < largest + 2 * MAX_TOPIC


def test_flooded_queues_fit_into_the_brokers_memory() -> None:
    """Twenty flooded sessions stay below mem_limit, as does one that is flooded in the most expensive way: Mosquitto
    keeps a second copy of what is in flight, about 400 bytes beside each message, and counts neither topics nor the
    bytes of QoS 0."""
    conf = broker_settings()
    messages, limit = int(conf["max_queued_messages"]), _bytes(SERVICES["mosquitto"]["mem_limit"])
    flooded = 2 * int(conf["max_inflight_bytes"]) + int(conf["max_queued_bytes"]) + 400 * messages
    assert 20 * flooded < limit
    assert messages * int(conf["max_packet_size"]) < limit
    assert (messages + 2 * Mqtt().in_flight) * MAX_TOPIC < limit


@pytest.fixture
async def stack_broker(tmp_path: Path) -> AsyncIterator[StackMosquitto]:
    async with StackMosquitto(tmp_path) as broker:
        broker.make_demo_account(ADMIN_PASSWORD)
        yield broker


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_nobody_retains_messages(stack_broker: StackMosquitto, version: aiomqtt.ProtocolVersion) -> None:
    """Who sets the retain flag is disconnected; nothing is kept, and the same message without the flag is taken."""
    settings: dict[str, Any] = {"username": "demo-devices", "password": ADMIN_PASSWORD, "protocol": version}

    async def retain() -> None:
        async with asyncio.timeout(WITHIN), connect(stack_broker, **settings) as device:
            await device.publish("testbed/acme/d/climate", b"kept for ever", retain=True)
            await anext(device.messages)

    with pytest.raises(aiomqtt.MqttError):
        await retain()
    inner = aiomqtt.Client(stack_broker.host, stack_broker.inner_port, username=ADMIN, password=ADMIN_PASSWORD)
    async with inner as reader, connect(stack_broker, **settings) as device:
        await reader.subscribe("testbed/#")
        await device.publish("testbed/acme/d/climate", b"not kept", qos=1)
        async with asyncio.timeout(WITHIN):
            assert (await anext(reader.messages)).payload == b"not kept"


async def test_mqtt_5_says_that_nothing_is_retained(stack_broker: StackMosquitto) -> None:
    """A client of MQTT 5 reads it in CONNACK, and in DISCONNECT where it retains all the same."""
    reader, writer = await asyncio.open_connection(stack_broker.host, stack_broker.port)
    hello = mqtt5.ConnectPacket("device", username="demo-devices", password=ADMIN_PASSWORD.encode())
    writer.write(hello.write() + mqtt5.PublishPacket("testbed/acme/d/climate", b"21", retain=True).write())
    async with asyncio.timeout(WITHIN):
        answers = memoryview(await reader.read())
    connack, length = mqtt5.read(answers)
    assert isinstance(connack, mqtt5.ConnAckPacket)
    assert not connack.retain_available
    goodbye, _ = mqtt5.read(answers[length:])
    assert isinstance(goodbye, mqtt5.DisconnectPacket)
    assert goodbye.reason_code is mqtt5.DisconnectReasonCode.RETAIN_NOT_SUPPORTED
    writer.close()


async def test_a_flood_for_a_stalled_session_leaves_the_broker_small(stack_broker: StackMosquitto) -> None:
    """A client that reads nothing, in a session of its own, while 300 MB are published for it: the broker keeps what
    the session's bounds allow and no more."""
    _, stalled = await asyncio.open_connection(stack_broker.host, stack_broker.inner_port, limit=1 << 10)
    hello = mqtt5.ConnectPacket("stalled", username=ADMIN, password=ADMIN_PASSWORD.encode(), receive_max=5000)
    filters = [mqtt5.TopicFilter("testbed/#", max_qos=mqtt5.QoS.AT_LEAST_ONCE)]
    stalled.write(hello.write() + mqtt5.SubscribePacket(1, filters).write())
    account = {"username": "demo-devices", "password": ADMIN_PASSWORD}
    async with connect(stack_broker, max_inflight_messages=200, **account) as device:
        for _ in range(50):
            many = (device.publish("testbed/acme/d/climate", bytes(60_000), qos=1) for _ in range(100))
            await asyncio.gather(*many)
    assert 30 << 20 < stack_broker.peak_memory < 200 << 20
    stalled.close()


def _bytes(text: str) -> int:
    """A size as Docker reads it."""
    return int(text[:-1]) << {"k": 10, "m": 20, "g": 30}[text[-1]]


def test_grafana_asks_for_permissions_each_time() -> None:
    """Its cache of them mixes up organisations, and each startup has one."""
    assert SERVICES["grafana"]["environment"]["GF_RBAC_PERMISSION_CACHE"] == "false"
