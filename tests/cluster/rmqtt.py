"""RMQTT, a broker of several nodes, on loopback ports: `rmqttd` from PATH, or the program that RMQTTD names.

Its sample configuration expires messages after five minutes, has 16 in flight and queues 1,000. The nodes are started
one after the other: at once, they would form two clusters. It drops what arrives for a session while its client
connects, although it acknowledges it; `rmqtt-message-storage`, which keeps every message until it expires, makes good
for that, provided that the client subscribes again (docs/decisions/0014-rmqtt.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import WITHIN, ServerFailed, ServerProcess, find, free_port

PROGRAM = os.environ.get("RMQTTD", "rmqttd")
NODES = (1, 2, 3)
LISTENER = """\
addr = "127.0.0.1:{port}"
allow_anonymous = true
max_inflight = 2000
max_mqueue_len = 100000
mqueue_rate_limit = "100000,1s"
max_packet_size = "1MB"
message_expiry_interval = "1h"
session_expiry_interval = "1h"
message_retry_interval = "20s"
"""
NODE = """\
node.id = {number}
node.busy.check_enable = false
rpc.server_addr = "127.0.0.1:{grpc}"
log.to = "console"
log.level = "{level}"
plugins.dir = "plugins/"
plugins.default_startups = [
    "rmqtt-cluster-raft", "rmqtt-message-storage", "rmqtt-session-storage", "rmqtt-shared-subscription"
]
plugins.disabled_default_startups = ["rmqtt-acl", "rmqtt-counter", "rmqtt-http-api"]
[listener.tcp.external]
"""
STORAGE = """\
storage.type = "sled"
storage.sled.path = "{directory}/sessions"
storage.sled.cache_capacity = "64M"
"""
MESSAGES = """\
storage.type = "ram"
storage.ram.cache_capacity = "256M"
storage.ram.cache_max_count = 1_000_000
storage.ram.encode = false
"""


def is_installed() -> bool:
    """Return whether the program is there."""
    return find(PROGRAM) is not None


class Node(ServerProcess):
    """One node."""

    binary = PROGRAM
    scheme = "mqtt"

    def __init__(self, directory: Path, number: int, ports: Mapping[int, tuple[int, int]]) -> None:
        super().__init__(directory)
        self.directory = directory / f"node-{number}"
        self._number = number
        self._ports = ports

    def prepare(self) -> list[str]:
        plugins = self.directory / "plugins"
        plugins.mkdir(exist_ok=True)
        (plugins / "rmqtt-cluster-raft.toml").write_text(
            f"node_grpc_addrs = {self._addresses(0)}\nraft_peer_addrs = {self._addresses(1)}\nleader_id = {NODES[0]}\n"
        )
        (plugins / "rmqtt-session-storage.toml").write_text(STORAGE.format(directory=self.directory))
        (plugins / "rmqtt-message-storage.toml").write_text(MESSAGES)
        (plugins / "rmqtt-shared-subscription.toml").write_text('strategy = "round_robin"\n')
        text = NODE.format(number=self._number, grpc=self._ports[self._number][0], level="warn")
        (self.directory / "rmqtt.toml").write_text(text + LISTENER.format(port=self.port))
        return ["-f", "rmqtt.toml"]

    async def come_back(self) -> None:
        """Start it again, as a service manager does. RMQTT binds its Raft port without SO_REUSEADDR: after a kill it
        exits at its start for as long as the kernel remembers the old connections, a minute."""
        async with asyncio.timeout(WITHIN):
            while True:
                with suppress(ServerFailed):
                    return await self.start()
                await asyncio.sleep(2)

    def _addresses(self, which: int) -> str:
        return "[{}]".format(", ".join(f'"{number}@127.0.0.1:{of[which]}"' for number, of in self._ports.items()))


class Cluster:
    """`async with Cluster(tmp_path) as cluster: ... cluster[1].url`."""

    def __init__(self, directory: Path) -> None:
        ports = {number: (free_port(), free_port()) for number in NODES}
        self._nodes = {number: Node(directory, number, ports) for number in NODES}

    def __getitem__(self, number: int) -> Node:
        return self._nodes[number]

    @property
    def nodes(self) -> Sequence[Node]:
        return list(self._nodes.values())

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            await node.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(self.nodes):
            await node.kill()
