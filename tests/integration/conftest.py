"""Fixtures of most integration tests: a broker, a configuration, a gateway and a device. A file may have its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from tests.running import Running, running, write_config
from tests.servers import Mosquitto
from tests.servers.mqtt_clients import connect


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path / "mosquitto") as server:
        yield server


@pytest.fixture
async def config(tmp_path: Path, broker: Mosquitto) -> Path:
    return write_config(tmp_path / "config", broker.url)


@pytest.fixture
async def gateway(config: Path) -> AsyncIterator[Running]:
    async with running(config) as one:
        yield one


@pytest.fixture
async def device(broker: Mosquitto) -> AsyncIterator[aiomqtt.Client]:
    async with connect(broker) as client:
        yield client
