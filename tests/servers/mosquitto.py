"""Mosquitto, the broker of a production test bed, with queues that hold what the gateway has not acked."""

from __future__ import annotations

import getpass
from pathlib import Path

from tests.servers.processes import ServerProcess


class Mosquitto(ServerProcess):
    """A Mosquitto broker: `async with Mosquitto(tmp_path) as broker: ... broker.url`.

    `conf` holds further lines of mosquitto.conf; a key there takes the place of the default here.
    Change `broker.conf` between `stop()` and `start()` to restart it with another configuration.
    Sessions, queued and retained messages survive `stop()`; `kill()` loses what came after the
    last autosave, up to two seconds.
    """

    binary = "mosquitto"
    scheme = "mqtt"

    def __init__(self, tmp_path: Path, *, conf: str = "") -> None:
        super().__init__(tmp_path)
        self.conf = conf

    def prepare(self) -> list[str]:
        path = self.directory / "mosquitto.conf"
        path.write_text(self._configuration())
        return ["-c", str(path)]

    def _configuration(self) -> str:
        given = {line.split()[0] for line in self.conf.splitlines() if line.strip()}
        kept = [f"{key} {value}" for key, value in self._defaults().items() if key not in given]
        return "\n".join([*kept, self.conf, ""])

    def _defaults(self) -> dict[str, str]:
        return {
            "user": getpass.getuser(),  # as root it would change to an account that cannot read tmp_path
            "listener": f"{self.port} {self.host}",
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{self.directory}/",
            "autosave_interval": "1",
            "max_queued_messages": "0",
            "max_inflight_messages": "1000",
            "log_dest": "stderr",
            "log_timestamp_format": "%Y-%m-%dT%H:%M:%S",
        }
