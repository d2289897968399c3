"""Lives of a gateway that are recorded, each with the power cuts that follow, and the controls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.powercut.disk import Ignores
from tests.powercut.load import publishing
from tests.powercut.recording import Before, Recording
from tests.running import GatewayProcess, write_config
from tests.servers import Mosquitto, eventually, free_port
from tests.servers.processes import LOOPBACK

STATE = "state/"
BROKER = "max_queued_messages 0\nmax_inflight_messages 1000\n"
End = Literal["kill", "stop"]


@dataclass(frozen=True)
class Scenario:
    """One gateway, run as often as `ends` says: each time it is stopped (SIGTERM) or killed (SIGKILL).

    A control has a `mutant`, one of tests.powercut.mutant, or a disk that `ignores` some fsyncs: then something must be
    lost, or the cuts prove nothing.
    """

    name: str
    about: str
    store_is_away: bool = False
    protocol: str = "5"
    workers: int = 1
    ends: Sequence[End] = ("stop", "kill", "kill")
    after: str = ""
    """The scenario whose remains after a cut this one begins with."""
    mutant: str = ""
    ignores: Ignores = ""

    @property
    def is_control(self) -> bool:
        return bool(self.mutant or self.ignores)


SCENARIOS = (
    Scenario("sqlite", "SQLite store; stopped, killed, and started again"),
    Scenario("sqlite again", "the same, started on what a power cut left", after="sqlite"),
    Scenario("store away", "InfluxDB is away, the journal fills; MQTT 3.1.1", store_is_away=True, protocol="3.1.1"),
    Scenario("workers", "two workers; stopped and killed", workers=2, ends=("stop", "kill")),
)
KILLED: Sequence[End] = ("kill",)
CONTROLS = (
    Scenario("state OFF", "state database: PRAGMA synchronous = OFF", mutant="state-synchronous-off", ends=KILLED),
    Scenario(
        "state NORMAL", "state database: PRAGMA synchronous = NORMAL", mutant="state-synchronous-normal", ends=KILLED
    ),
    Scenario("store OFF", "SQLite store: PRAGMA synchronous = OFF", mutant="store-synchronous-off", ends=KILLED),
    Scenario("names", "the gateway fsyncs no directory, SQLite does", mutant="no-fsync-of-directories", ends=KILLED),
    Scenario("no names", "the disk ignores every fsync of a directory", ignores="directory", ends=KILLED),
    Scenario("checkpoints", "the disk ignores every fsync of a .db file", ignores="database", ends=("stop", "kill")),
)


async def record(scenario: Scenario, recording: Recording, messages: int, prior: tuple[Before, Path] | None) -> None:
    """Record a scenario; `messages` are published in each of its runs. `prior` is what came before, and the files that
    are left of it."""
    before, tree = prior or (Before(), None)
    recording.begin(before, tree)
    first = 1 + max((number for numbers in before.delivered.values() for number in numbers), default=-1)
    async with Mosquitto(recording.directory / "mosquitto", conf=BROKER) as broker:
        config = _config(scenario, recording, broker)
        gateway = GatewayProcess(config)
        gateway.env = recording.environment(broker.port)
        if scenario.mutant:
            gateway.program = ("-m", "tests.powercut.mutant", scenario.mutant)
        for run, end in enumerate(scenario.ends, 1):
            async with _started(gateway, scenario, run), publishing(broker, first) as publisher:
                await eventually(lambda: publisher.published >= messages, says=f"{messages} messages are published")
                await (gateway.kill() if end == "kill" else gateway.terminate())
            first = publisher.next


@asynccontextmanager
async def _started(gateway: GatewayProcess, scenario: Scenario, run: int) -> AsyncIterator[None]:
    await gateway.start("--workers", str(scenario.workers))
    try:
        expected = run * scenario.workers
        await eventually(lambda: gateway.log.count("broker connected") >= expected, says="the gateway is connected")
        yield
    finally:
        await gateway.end()


def _config(scenario: Scenario, recording: Recording, broker: Mosquitto) -> Path:
    settings: dict[str, Any] = {
        "state_dir": f"../{recording.root.name}/{STATE}",
        "mqtt": {"url": broker.url, "protocol": scenario.protocol},
        "log": {"format": "json"},
    }
    if scenario.store_is_away:
        secret = recording.directory / "influxdb.token"
        secret.write_text("no-token")
        nowhere = {"url": f"http://{LOOPBACK}:{free_port()}", "org": "none", "token_file": str(secret)}
        settings["store"] = {"kind": "influxdb", "influxdb": nowhere}
        settings["drain"] = {"interval": "20ms", "stop_within": "100ms"}
    return write_config(recording.directory / "config", broker.url, **settings)


def named(scenarios: Sequence[Scenario]) -> Mapping[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios}
