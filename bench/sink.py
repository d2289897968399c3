"""A sink, `python -m bench.sink SPEC`: receives and acknowledges the load, in place of a broker.

It shows the generator's own ceiling. It serves one connection, until it closes.
"""

from __future__ import annotations

import socket
from typing import Any

from bench import helper, packets
from bench.load import LOOPBACK, READ_AT_ONCE
from bench.shape import Shape

CONNACK = {4: b"\x20\x02\x00\x00", 5: b"\x20\x03\x00\x00\x00"}


def serve(listener: socket.socket, spec: dict[str, Any]) -> None:
    """Receive messages of one length and, with QoS 1, acknowledge those of each read in one write."""
    shape = Shape(**spec["shape"])
    packet = packets.publish(shape.topic(0), shape.body(0), spec["qos"], 1, spec["version"])
    stride, ident = len(packet), packets.id_offset(packet)
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    first = connection.recv(READ_AT_ONCE)
    connection.sendall(CONNACK[spec["version"]])
    left = first[packets.packet_end(first) :]
    while came := connection.recv(READ_AT_ONCE):
        data = left + came
        whole = len(data) // stride * stride
        left = data[whole:]
        if spec["qos"]:
            connection.sendall(packets.acknowledge(data[:whole], stride, ident))


def main() -> None:
    """Listen, then receive."""
    spec = helper.spec()
    with socket.create_server((LOOPBACK, spec["port"])) as listener:
        helper.say({"ready": True})
        serve(listener, spec)


if __name__ == "__main__":
    main()
