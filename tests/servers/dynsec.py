"""Mosquitto with its dynamic security plugin, as the stack runs it: nobody may do anything but the admin."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import aiomqtt

from tests.servers.mosquitto import Mosquitto
from tests.servers.mqtt_clients import connect
from tests.servers.processes import need
from tests.servers.waiting import WITHIN

ADMIN, ADMIN_PASSWORD = "admin", "admin-password"
TOPIC = "$CONTROL/dynamic-security/v1"


def plugin() -> Path:
    """Return where Debian keeps the plugin; architectures differ."""
    found = [*Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), *Path("/usr/lib").glob("mosquitto_dynamic*.so")]
    return found[0] if found else Path("mosquitto_dynamic_security.so")


class SecureMosquitto(Mosquitto):
    """`async with SecureMosquitto(tmp_path) as broker`: signs in `ADMIN` with `ADMIN_PASSWORD`."""

    def __init__(self, tmp_path: Path, *, conf: str = "") -> None:
        need("mosquitto", "mosquitto_ctrl")
        tmp_path.mkdir(parents=True, exist_ok=True)
        file = tmp_path / "dynamic-security.json"
        subprocess.run(
            ["mosquitto_ctrl", "dynsec", "init", str(file), ADMIN, ADMIN_PASSWORD], check=True, capture_output=True
        )
        secured = f"allow_anonymous false\nplugin {plugin()}\nplugin_opt_config_file {file}\n"
        super().__init__(tmp_path, conf=secured + conf)

    async def control(self, command: dict[str, Any]) -> dict[str, Any]:
        """Give the plugin a command, as its admin; return the data of its answer. AssertionError when it refuses."""
        async with connect(self, username=ADMIN, password=ADMIN_PASSWORD) as admin:
            return await control(admin, command)


async def control(admin: aiomqtt.Client, command: dict[str, Any]) -> dict[str, Any]:
    """Give the plugin a command over a connection of its admin; return the data of its answer. AssertionError when it
    refuses."""
    await admin.subscribe(f"{TOPIC}/response")
    await admin.publish(TOPIC, json.dumps({"commands": [command]}), qos=1)
    async with asyncio.timeout(WITHIN):
        answer = await anext(admin.messages)
    assert isinstance(answer.payload, bytes)
    (response,) = json.loads(answer.payload)["responses"]
    assert "error" not in response, response
    data: dict[str, Any] = response.get("data", {})
    return data
