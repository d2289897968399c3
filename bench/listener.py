"""A listener, `python -m bench.listener SPEC`: follows a startup's live feed over Server-Sent Events.

A question says what the load did: {"start_ns", "rate", "first_sequence", "messages"}. The answer has the latency of
each event, from the time its message was due to the time it was read here, and how many events never arrived.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from bench import helper
from bench.shape import FIRST_SEQUENCE, Shape
from bench.stats import NS, latency_ms

READ_AT_ONCE = 1 << 20
SILENCE = 0.1
QUIET_NS = 3 * NS
SEQUENCES = re.compile(rb'"sequence":(\d+)')
MISSED = re.compile(rb'event: missed\ndata: \{"count":(\d+)')


class Listener:
    """A listener to the feed of the first startup."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._shape = Shape(**spec["shape"])
        self._events: list[tuple[int, list[int]]] = []
        self._reported_missed = 0
        self._left = b""
        url = urlsplit(spec["url"])
        self._socket = socket.create_connection((url.hostname or "", url.port or 80), timeout=10)
        lines = (
            f"GET /v1/startups/{self._shape.slug(0)}/live HTTP/1.1",
            f"Host: {url.netloc}",
            f"Authorization: Bearer {spec['token']}",
        )
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = self._socket.recv(READ_AT_ONCE)
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise ConnectionError(f"the gateway rejected the listener: {answer!r}")
        self._socket.settimeout(SILENCE)

    def run(self) -> None:
        """Listen, and answer questions, until the other side closes."""
        inbox, question, asked_ns = helper.Inbox(), None, 0
        while not inbox.closed:
            self._receive()
            if question is None:
                question, asked_ns = inbox.take(), time.monotonic_ns()
            if question is not None and self._is_quiet(asked_ns):
                helper.say(self._answer(question))
                question = None

    def _receive(self) -> None:
        try:
            came = self._socket.recv(READ_AT_ONCE)
        except TimeoutError:
            return
        if not came:
            raise ConnectionError("the gateway ended the feed")
        now = time.monotonic_ns()
        whole, end, self._left = (self._left + came).rpartition(b"\n\n")
        if end:
            self._events.append((now, list(map(int, SEQUENCES.findall(whole)))))
            self._reported_missed += sum(map(int, MISSED.findall(whole)))

    def _is_quiet(self, asked_ns: int) -> bool:
        last = max([asked_ns, *(at for at, _ in self._events[-1:])])
        return time.monotonic_ns() - last > QUIET_NS

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        first, messages = question["first_sequence"], question["messages"]
        wanted = {
            FIRST_SEQUENCE + one
            for one in range(first, first + messages)
            if one % self._shape.devices % self._shape.startups == 0
        }
        latencies, seen = [], set()
        for at, sequences in self._events:
            for sequence in wanted.intersection(sequences):
                number = sequence - FIRST_SEQUENCE - first
                latencies.append(at - question["start_ns"] - number * NS / question["rate"])
                seen.add(sequence)
        reported, self._reported_missed, self._events = self._reported_missed, 0, []
        return {
            "wanted": len(wanted),
            "missed": len(wanted - seen),
            "reported_missed": reported,
            **latency_ms(latencies),
        }


def main() -> None:
    """Connect, then listen."""
    listener = Listener(helper.spec())
    helper.say({"ready": True})
    listener.run()


if __name__ == "__main__":
    main()
