"""Mosquitto of docker-compose.yml: its own start.sh and mosquitto.conf, run without a container."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

import aiomqtt

from tests.servers.dynsec import plugin
from tests.servers.mosquitto import Mosquitto
from tests.servers.processes import free_port, need
from tests.servers.waiting import WITHIN

MOSQUITTO = Path(__file__).parents[2] / "config" / "mosquitto"
ADMIN_PASSWORD = "a-password-of-the-admin"


class StackMosquitto(Mosquitto):
    """The broker of the stack: start.sh and mosquitto.conf as they are, but for the container's paths and port."""

    binary = "sh"

    def __init__(self, tmp_path: Path, password: str = ADMIN_PASSWORD) -> None:
        need("mosquitto", "mosquitto_ctrl", "mosquitto_pub")
        super().__init__(tmp_path)
        self.inner_port = free_port()
        self.secret = tmp_path / "admin-password"
        self.secret.write_text(password)

    def prepare(self) -> list[str]:
        conf = (MOSQUITTO / "mosquitto.conf").read_text()
        for theirs, here in (
            ("/usr/lib/mosquitto_dynamic_security.so", str(plugin())),
            ("/mosquitto/data/", f"{self.directory}/"),
            ("listener 1883", f"listener {self.port} {self.host}"),
            ("listener 1884", f"listener {self.inner_port} {self.host}"),
            ("log_dest stdout", f"log_dest stderr\nuser {getpass.getuser()}"),
        ):
            assert conf.count(theirs) >= 1
            conf = conf.replace(theirs, here)
        (self.directory / "mosquitto.conf").write_text(conf)
        given = {
            "SECURITY_FILE": self.directory / "dynamic-security.json",
            "CONF_FILE": self.directory / "mosquitto.conf",
            "ADMIN_PASSWORD_FILE": self.secret,
        }
        settings = " ".join(f"{name}='{value}'" for name, value in given.items())
        return ["-c", f"PATH=$PATH:/usr/sbin {settings} exec sh {MOSQUITTO / 'start.sh'}"]

    def client(self, user: str | None = None, password: str | None = None) -> aiomqtt.Client:
        return aiomqtt.Client(self.host, self.port, username=user, password=password, timeout=WITHIN)

    @property
    def peak_memory(self) -> int:
        """The most bytes of memory that the broker has had."""
        (line,) = (one for one in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmHWM" in one)
        return int(line.split()[1]) << 10

    def make_demo_account(self, password: str) -> None:
        """What the service `demo-account` does."""
        other = self.secret.with_name("demo-password")
        other.write_text(password)
        given = {"MQTT_HOST": self.host, "MQTT_PORT": str(self.port)}
        files = {"ADMIN_PASSWORD_FILE": str(self.secret), "DEMO_PASSWORD_FILE": str(other)}
        script = str(MOSQUITTO / "demo-account.sh")
        subprocess.run(["sh", script], env=os.environ | given | files, check=True, capture_output=True)
