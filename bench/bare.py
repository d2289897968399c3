"""Ceiling: `python -m bench.bare SPEC`, a subscriber that decodes nothing and acknowledges.

MQTT 5 with a large Receive Maximum and a session that outlives the connection, as the gateway has. It counts packets
of one length by stride, builds their PUBACKs with slices, and writes them in one piece: no client of this broker can
be much faster.

A question is {"until": n}. Once n messages have arrived since the start, the answer is {"ns": …, "received": n}.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from bench import helper, packets
from bench.load import LOOPBACK, READ_AT_ONCE
from bench.shape import FILTER, Shape

VERSION: packets.Version = 5
GATHER = 0.020
"""Seconds between two reads, the best of those tried (2 to 40 ms): the broker sends each message separately, and a
client that reads each separately slows it down."""
LOOK_NS = 5_000_000
EXPIRY = 3600


class Subscriber:
    """A connection with one subscription to everything."""

    def __init__(self, spec: dict[str, Any]) -> None:
        shape, self._qos = Shape(**spec["shape"]), spec["qos"]
        packet = packets.publish(shape.topic(0), shape.body(0), self._qos, 1, VERSION)
        self._stride = len(packet)
        self._first = packet[:1]
        self._id = packets.id_offset(packet)
        self._left = bytearray()
        self._received = 0
        self._last_ns = 0
        self._socket = self._connect(spec["port"], spec["in_flight"])

    def _connect(self, port: int, in_flight: int) -> socket.socket:
        opened = socket.create_connection((LOOPBACK, port), timeout=10)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(packets.connect("bench-bare", VERSION, receive_maximum=in_flight, session_expiry=EXPIRY))
        _answer(opened, 0x20)
        opened.sendall(packets.subscribe(FILTER, self._qos, VERSION))
        _answer(opened, 0x90)
        opened.setblocking(False)
        return opened

    def run(self) -> None:
        """Receive, and answer questions, until the other side closes."""
        inbox, wanted, looked_ns = helper.Inbox(), None, 0
        while not inbox.closed:
            self._receive()
            now_ns = time.monotonic_ns()
            if wanted is None and now_ns - looked_ns > LOOK_NS:
                question, looked_ns = inbox.take(), now_ns
                wanted = question["until"] if question else None
            if wanted is not None and self._received >= wanted:
                helper.say({"ns": self._last_ns, "received": self._received})
                wanted = None

    def _receive(self) -> None:
        time.sleep(GATHER)
        try:
            data = self._socket.recv(READ_AT_ONCE)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the broker closed the connection")
        data = bytes(self._left) + data if self._left else data
        whole = len(data) // self._stride * self._stride
        count = whole // self._stride
        if data[: whole : self._stride] != self._first * count:
            raise ConnectionError("the broker sent something other than the expected messages")
        if self._qos and count:
            self._send(packets.acknowledge(data[:whole], self._stride, self._id))
        self._left = bytearray(data[whole:])
        if count:
            self._received += count
            self._last_ns = time.monotonic_ns()

    def _send(self, acks: bytearray) -> None:
        self._socket.setblocking(True)
        self._socket.sendall(acks)
        self._socket.setblocking(False)


def _answer(opened: socket.socket, first: int) -> None:
    """Wait for one packet."""
    data = bytearray()
    while not (end := packets.packet_end(data)) or len(data) < end:
        came = opened.recv(1 if not end else end - len(data))
        if not came:
            raise ConnectionError("the broker closed the connection")
        data += came
    if data[0] != first:
        raise ConnectionError(f"expected a packet that begins with {first:#x}; got {data.hex()}")


def main() -> None:
    """Subscribe, then count."""
    subscriber = Subscriber(helper.spec())
    helper.say({"ready": True})
    subscriber.run()


if __name__ == "__main__":
    main()
