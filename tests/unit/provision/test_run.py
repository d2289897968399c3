"""`provision.run`: what the commands rely on, over all servers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CONNECT = """
import asyncio, sys
from pathlib import Path
from blockbuster import blockbuster_ctx
from gateway.config import Config, Settings
from gateway.provision import run
from gateway.provision.settings import GrafanaAdmin, InfluxDBAdmin, MosquittoAdmin, ProvisionSettings

secret = Path(sys.argv[1])
settings = ProvisionSettings(
    secrets_dir=secret.parent / "secrets",
    mosquitto=MosquittoAdmin(url="mqtt://localhost:9", password_file=secret),
    influxdb=InfluxDBAdmin(url="http://localhost:9", token_file=secret),
    grafana=GrafanaAdmin(url="http://localhost:9", password_file=secret, influxdb_url="http://localhost:9"),
)
clients = ("aiomqtt", "influxdb_client", "grafana_client")

async def connect():
    assert not any(name in sys.modules for name in clients), "one is imported already: this shows nothing"
    async with run.servers(Config(settings=Settings(), startups=()), settings) as several:
        assert all(name in sys.modules for name in clients)
        print(*(server.name for server in several))

with blockbuster_ctx("gateway"):
    asyncio.run(connect())
"""


def test_the_servers_clients_are_imported_beside_the_event_loop(tmp_path: Path) -> None:
    """In a new process the clients are not imported yet: that they are, and secrets read, does not block the loop."""
    secret = tmp_path / "secret"
    secret.write_text("of-an-admin")
    done = subprocess.run([sys.executable, "-c", _CONNECT, str(secret)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("mosquitto influxdb grafana\n", "")
