"""Load generator: `python -m bench.load SPEC`, a process of its own that is never the bottleneck.

Plain sockets and prebuilt packets (`bench.blocks`): the rest of the work for a message costs well under 1 µs.

- Closed loop: as fast as the broker acknowledges, with `window` messages of each connection not yet acknowledged.
- Open loop: message k is due at `start + k / rate`, whatever happened to those before it. Latencies are taken from
  that time, so that a stall counts for every message that it delays (no coordinated omission).

Each question is a phase: {"messages": n, "seconds": s, "rate": r}; `messages` or `seconds` may be missing, and `rate`
as well (closed loop). The answer has times in ns of CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import math
import select
import socket
import time
from typing import Any

from bench import helper, packets
from bench.blocks import PACKET_IDS, Blocks
from bench.packets import PUBACK_LENGTH, Version
from bench.shape import Shape

NS = 1_000_000_000
LOOPBACK = "127.0.0.1"
READ_AT_ONCE = 1 << 20
TICK = 0.001
LATE_NS = 10_000_000


class Connection:
    """A connection to the broker that many devices may share."""

    def __init__(self, port: int, name: str, version: Version, acks_at_once: int) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(packets.connect(name, version))
        answer = self.socket.recv(READ_AT_ONCE)
        if answer[:1] != b"\x20" or answer[3:4] != b"\x00":
            raise ConnectionError(f"the broker rejected {name}: {answer.hex()}")
        self.socket.setblocking(False)
        # Wake for many PUBACKs at once: the broker sends each in a packet of its own.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, PUBACK_LENGTH * acks_at_once)
        self.next_id = 1
        self.sent = 0
        self._ack_bytes = 0
        self._pending = memoryview(b"")

    @property
    def unacknowledged(self) -> int:
        return self.sent - self._ack_bytes // PUBACK_LENGTH

    @property
    def blocked(self) -> bool:
        return bool(self._pending)

    def send(self, data: bytes, count: int) -> None:
        """Send `count` packets; what the socket does not accept now is left for `flush`."""
        self.sent += count
        self._pending = memoryview(data)
        self.flush()

    def flush(self) -> None:
        try:
            self._pending = self._pending[self.socket.send(self._pending) :]
        except BlockingIOError:
            return

    def count_acks(self) -> None:
        """Read what has arrived. Only lengths are checked, and that each four bytes begin like a PUBACK."""
        try:
            data = self.socket.recv(READ_AT_ONCE)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the broker closed the connection")
        first = -self._ack_bytes % PUBACK_LENGTH
        if data[first::PUBACK_LENGTH].strip(b"\x40"):
            raise ConnectionError("the broker sent something other than PUBACKs of four bytes")
        self._ack_bytes += len(data)


class Generator:
    """All connections, and the position in the sequence of messages."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.qos: int = spec["qos"]
        self.window: int = spec["window"]
        self.blocks = Blocks(Shape(**spec["shape"]), self.qos, spec["version"])
        if self.window + self.blocks.size > PACKET_IDS:
            raise ValueError(f"window: expected at most {PACKET_IDS - self.blocks.size}; got {self.window}")
        acks_at_once = max(1, min(self.blocks.size, self.window) // 4)
        self.connections = [
            Connection(spec["port"], f"load-{number}", spec["version"], acks_at_once)
            for number in range(spec["connections"])
        ]
        self.sequence = 0
        self._poll = select.epoll()
        for connection in self.connections:
            self._poll.register(connection.socket, select.EPOLLIN)

    def run(self, phase: dict[str, Any]) -> dict[str, Any]:
        """Run a phase, and return the answer."""
        began = helper.cpu_seconds()
        rate = phase.get("rate")
        report = self._open_loop(phase, rate) if rate else self._closed_loop(phase)
        return report | {"cpu_seconds": helper.cpu_seconds() - began}

    # -------------------------------------------------------------- closed loop

    def _closed_loop(self, phase: dict[str, Any]) -> dict[str, Any]:
        messages = phase.get("messages") or math.inf
        start = time.monotonic_ns()
        until = start + int(phase["seconds"] * NS) if phase.get("seconds") else math.inf
        first, sent = self.sequence, 0
        while sent < messages and time.monotonic_ns() < until:
            idle = True
            for connection in self.connections:
                if self._may_send(connection) and sent < messages:
                    sent += self._send_block(connection, int(min(self.blocks.size, messages - sent)))
                    idle = False
            self._turn(TICK if idle else 0)
        return self._finished(start, first, sent)

    def _may_send(self, connection: Connection) -> bool:
        if connection.blocked:
            return False
        return not self.qos or connection.unacknowledged + min(self.blocks.size, self.window) <= self.window

    def _send_block(self, connection: Connection, count: int) -> int:
        count = min(count, self.window)
        data = self._next_block(connection)
        connection.send(bytes(memoryview(data)[: count * self.blocks.stride]), count)
        return count

    def _next_block(self, connection: Connection) -> bytearray:
        data = self.blocks.stamped(self.sequence, connection.next_id)
        self.sequence += self.blocks.size
        connection.next_id += self.blocks.size
        if connection.next_id + self.blocks.size > PACKET_IDS:
            connection.next_id = 1
        return data

    # -------------------------------------------------------------- open loop

    def _open_loop(self, phase: dict[str, Any], rate: float) -> dict[str, Any]:
        messages = int(phase.get("messages") or phase["seconds"] * rate)
        start = time.monotonic_ns() + NS // 100
        first, sent, late, latest = self.sequence, 0, 0, 0
        connection, block, used = self.connections[0], b"", self.blocks.size
        stride = self.blocks.stride
        while sent < messages:
            behind_ns = time.monotonic_ns() - start - int(sent * NS / rate)
            if behind_ns < 0 or not self._may_send(connection):
                self._turn(TICK)
                continue
            if used == self.blocks.size:
                connection = self.connections[self.sequence // used % len(self.connections)]
                block, used = bytes(self._next_block(connection)), 0
            count = min(messages - sent, self.blocks.size - used, int(behind_ns * rate / NS) + 1)
            connection.send(block[used * stride : (used + count) * stride], count)
            used, sent = used + count, sent + count
            latest = max(latest, behind_ns)
            late += count if behind_ns > LATE_NS else 0
        report = self._finished(start, first, sent)
        return report | {"rate": rate, "late_share": late / sent, "latest_ms": latest / 1e6}

    # -------------------------------------------------------------- both

    def _turn(self, timeout: float) -> None:
        """Send what waits, and read what has arrived."""
        self._poll.poll(timeout)
        for connection in self.connections:
            if connection.blocked:
                connection.flush()
            if self.qos:
                connection.count_acks()

    def _finished(self, start: int, first: int, sent: int) -> dict[str, Any]:
        while any(connection.blocked for connection in self.connections):
            self._turn(TICK)
        last = time.monotonic_ns()
        while self.qos and any(connection.unacknowledged for connection in self.connections):
            self._turn(TICK)
        return {
            "messages": sent,
            "first_sequence": first,
            "start_ns": start,
            "last_ns": last,
            "acknowledged_ns": time.monotonic_ns(),
        }


def main() -> None:
    """Connect, then run phase after phase."""
    helper.serve(Generator(helper.spec()).run)


if __name__ == "__main__":
    main()
