"""Mosquitto with its dynamic security plugin, as the stack runs it: nobody may do anything but the admin."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers.mosquitto import Mosquitto
from tests.servers.processes import need

ADMIN, ADMIN_PASSWORD = "admin", "admin-password"


def plugin() -> Path:
    """Where Debian keeps the plugin; architectures differ."""
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
