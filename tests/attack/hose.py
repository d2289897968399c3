"""Attacker, `python -m tests.attack.hose SPEC`: connections that send prepared bytes, as fast as they can or at a rate.

It knows no protocol, so that it is fast and an attack is a matter of bytes. `files` of the spec are paths: `hello` is
sent once on each connection, `block` again and again; with several, connections take turns. A block is `units`
messages of one length. What is received is read and dropped (`read` null), never read (0), or read slowly (bytes per
connection and tenth of a second).

A question is {"seconds", "bytes"}: whatever comes first ends the attack. The answer counts what was reached. The
process runs at a low priority: a real attacker's processor is another machine's.
"""

from __future__ import annotations

import os
import re
import resource
import select
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import helper

LOOPBACK = "127.0.0.1"
NICE = 10
TICK = 0.001
SLOW_TICK = 0.1
DRAIN_WITHIN = 30.0
READ_AT_ONCE = 1 << 20
SEND_AT_ONCE = 1 << 20
IP_BIND_ADDRESS_NO_PORT = 24
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


class Stream:
    """A connection, opened again when it ends if the attack wants that."""

    def __init__(self, number: int, hose: Hose) -> None:
        self.number = number
        self._hose = hose
        self._hello = hose.hello[number % len(hose.hello)] if hose.hello else b""
        self.block = memoryview(hose.blocks[number % len(hose.blocks)]) if hose.blocks else memoryview(b"")
        self._position = 0
        self._pending = memoryview(b"")
        self.socket: socket.socket | None = None

    def open(self) -> None:
        """Begin to connect; the greeting waits until the connection is there."""
        opened = socket.socket()
        opened.setblocking(False)
        if self._hose.read is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if self._hose.addresses > 1:
            opened.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            opened.bind((f"127.0.1.{1 + self.number % self._hose.addresses}", 0))
        opened.connect_ex((LOOPBACK, self._hose.port))
        self.socket, self._pending, self._position = opened, memoryview(self._hello), 0
        self._hose.opened += 1

    def flush(self) -> bool:
        """Send what waits; True when nothing waits any more."""
        while self._pending and self.socket is not None:
            try:
                sent = self.socket.send(self._pending[:SEND_AT_ONCE])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.end()
                return False
            self._pending = self._pending[sent:]
            self._hose.sent_bytes += sent
        return self.socket is not None

    def give(self, units: int | None) -> int:
        """Queue `units` units of the block, or what is left of it; return how many."""
        stride = self._hose.stride
        left = (len(self.block) - self._position) // stride
        count = left if units is None else min(left, units)
        self._pending = self.block[self._position : self._position + count * stride]
        self._position = (self._position + count * stride) % (len(self.block) // stride * stride)
        return count

    def receive(self) -> None:
        """Read and drop what has arrived."""
        if self.socket is None:
            return
        try:
            data = self.socket.recv(READ_AT_ONCE if self._hose.read is None else self._hose.read)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        self._hose.note(data)
        if self._hose.hang_up:
            self.end()

    def finish(self) -> None:
        """Signal that nothing more comes."""
        with suppress(OSError):
            if self.socket is not None:
                self.socket.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        if self.socket is not None:
            self._hose.closed += 1
            self._hose.forget(self)
            self.socket.close()
            self.socket = None


class Hose:
    """All connections of one attack."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.port: int = spec["port"]
        self.addresses: int = spec["addresses"]
        self.hello = [Path(one).read_bytes() for one in spec["hello"]]
        self.blocks = [Path(one).read_bytes() for one in spec["block"]]
        self.stride = len(self.blocks[0]) // spec["units"] if self.blocks else 1
        self.read: int | None = spec["read"]
        self.hang_up: bool = spec["hang_up"]
        self._again: bool = spec["again"]
        self._rate: float | None = spec["rate"]
        self._most: int | None = spec["most"]
        self._opens: float | None = spec["opens"]
        self.opened = self.closed = self.sent_bytes = self.received = self.units = 0
        self._answers: Counter[str] = Counter()
        self._epoll = select.epoll()
        self._by_fd: dict[int, Stream] = {}
        self._streams = [Stream(number, self) for number in range(spec["connections"])]
        self._feeding = [one for one in self._streams if one.block]
        self._waiting = list(self._streams)
        self._greeting: list[Stream] = []
        self._turn = 0
        self._slow_at = 0.0
        self._began = 0.0

    def forget(self, stream: Stream) -> None:
        assert stream.socket is not None
        del self._by_fd[stream.socket.fileno()]
        if self._again:
            self._waiting.append(stream)

    def note(self, data: bytes) -> None:
        """Count what was received, and the kinds of answers."""
        self.received += len(data)
        if data.startswith(b"\x20\x02"):
            self._answers[f"CONNACK {data[3]}"] += 1
        else:
            for status in STATUS.findall(data[:65_536]):
                self._answers[status.decode()] += 1

    def run(self, phase: dict[str, Any]) -> dict[str, Any]:
        """Attack, and return what was reached."""
        self._began = time.monotonic()
        until, most_bytes = self._began + phase["seconds"], phase["bytes"]
        while (now := time.monotonic()) < until and self.sent_bytes < most_bytes and not self._is_done():
            self._open(now)
            idle = not self._feed(now)
            self._receive(now, TICK if idle else 0)
        seconds = time.monotonic() - self._began
        self._drain()
        if self._most is not None:  # a fixed number, until the other side has read them
            seconds = time.monotonic() - self._began
        return {
            "seconds": round(seconds, 3),
            "units": min(self.units, self.sent_bytes // self.stride),
            "sent": self.sent_bytes,
            "opened": self.opened,
            "closed": self.closed,
            "open": len(self._by_fd),
            "received": self.received,
            "answers": dict(self._answers),
        }

    def _is_done(self) -> bool:
        return self._most is not None and self.units >= self._most and all(map(Stream.flush, self._feeding))

    def _open(self, now: float) -> None:
        allowed = len(self._waiting)
        if self._opens is not None:
            allowed = min(allowed, int((now - self._began) * self._opens) + 1 - self.opened)
        for stream in self._waiting[: max(0, allowed)]:
            stream.open()
            assert stream.socket is not None
            self._by_fd[stream.socket.fileno()] = stream
            self._epoll.register(stream.socket, select.EPOLLIN if self.read is None else 0)
            if not stream.block:
                self._greeting.append(stream)
        del self._waiting[: max(0, allowed)]
        self._greeting = [one for one in self._greeting if not one.flush() and one.socket is not None]

    def _feed(self, now: float) -> bool:
        """Send as much as is due; False when nothing could be sent."""
        due = self._due(now)
        busy = False
        for _ in self._feeding:
            stream = self._feeding[self._turn]
            self._turn = (self._turn + 1) % len(self._feeding)
            if stream.socket is None or not stream.flush():
                continue
            if due is not None and due <= 0:
                break
            given = stream.give(due)
            self.units += given
            due = None if due is None else due - given
            stream.flush()
            busy = True
        return busy

    def _due(self, now: float) -> int | None:
        limits = []
        if self._rate is not None:
            limits.append(int((now - self._began) * self._rate) - self.units)
        if self._most is not None:
            limits.append(self._most - self.units)
        return min(limits) if limits else None

    def _receive(self, now: float, timeout: float) -> None:
        for fd, _ in self._epoll.poll(timeout, 256):
            if stream := self._by_fd.get(fd):
                stream.receive() if self.read is None else stream.end()
        if self.read and now - self._slow_at > SLOW_TICK:
            self._slow_at = now
            for stream in list(self._by_fd.values()):
                stream.receive()

    def _drain(self) -> None:
        """Wait until the other side has read all that was sent, if that is a number of messages; else for a moment."""
        self._again = False
        if self._most is not None:
            for stream in self._by_fd.values():
                stream.finish()
        until = time.monotonic() + (0.2 if self._most is None else DRAIN_WITHIN)
        while self.read is None and self._by_fd and time.monotonic() < until:
            self._receive(time.monotonic(), 0.05)


def main() -> None:
    """Prepare, then attack when asked to."""
    os.nice(NICE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    helper.serve(Hose(helper.spec()).run)


if __name__ == "__main__":
    main()
