"""Real servers as async context managers, so that a test reads like a sentence.

    async with Mosquitto(tmp_path) as broker, FlakyProxy.before(broker) as network:
        ...
        network.cut()
        await broker.kill()
        await broker.start()          # same port, same data

Each listens on a loopback port of its own and keeps its files under the directory that it is given.
A test whose server is not installed is skipped and says how to install it; in CI it fails instead.
"""

from tests.servers.faults import FlakyProxy
from tests.servers.influx_v2_front import InfluxV2Front
from tests.servers.influxd import Influxd
from tests.servers.mosquitto import Mosquitto
from tests.servers.processes import ServerFailed, ServerProcess, find, free_port, need
from tests.servers.waiting import WITHIN, eventually, keep_waiting

__all__ = [
    "WITHIN",
    "FlakyProxy",
    "InfluxV2Front",
    "Influxd",
    "Mosquitto",
    "ServerFailed",
    "ServerProcess",
    "eventually",
    "find",
    "free_port",
    "keep_waiting",
    "need",
]
