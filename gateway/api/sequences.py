"""Sequence numbers of a device: which of its messages are missing, and what became of one of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Path as Parameter

from gateway.api.access import CurrentServices, ServedStartup
from gateway.config import TopicRule
from gateway.errors import RequestRejected
from gateway.model import Reason
from gateway.rules.finishing import pick
from gateway.rules.reader import Reader
from gateway.state.dead_letters import NEWEST, DeadLetter
from gateway.state.reader import StateReader

LETTERS = 200
"""Newest dead letters of the startup among which a number is looked for."""
MAX_NUMBER = (1 << 63) - 1

Where = Literal["missing", "not yet", "waiting", "rejected", "refused", "stored", "unknown"]
Number = Annotated[int, Parameter(ge=0, le=MAX_NUMBER)]
router = APIRouter()


@router.get(
    "/startups/{startup}/devices/{device}/sequences", summary="Sequence numbers of a device, and what is missing"
)
async def sequences(startup: ServedStartup, services: CurrentServices, device: str) -> dict[str, Any]:
    found = await services.limits.read(startup.slug, lambda: services.state.sequences(startup.slug, device))
    shown = {name: one.as_json() for name, one in found.items()}
    return {"startup": startup.slug, "device": device, "sequences": shown}


@router.get(
    "/startups/{startup}/devices/{device}/sequences/{measurement}/{number}",
    summary="What became of the message with this sequence number",
)
async def whereabouts(
    startup: ServedStartup, services: CurrentServices, device: str, measurement: str, number: Number
) -> dict[str, Any]:
    rule = startup.topics.get(measurement)
    if rule is None or not rule.seq:
        known = ", ".join(sorted(name for name, one in startup.topics.items() if one.seq)) or "none"
        raise RequestRejected(404, f"there is no measurement {measurement!r} whose rule has a seq; there are: {known}")
    search = _Search(services.state, startup.slug, device, measurement, rule)
    where, letter = await services.limits.read(startup.slug, lambda: search.find(number))
    return {
        "startup": startup.slug,
        "device": device,
        "measurement": measurement,
        "number": number,
        "where": where,
        "dead_letter": letter,
    }


class _Search:
    """A search for one number of a device, through everything that the state knows."""

    def __init__(self, state: StateReader, startup: str, device: str, measurement: str, rule: TopicRule) -> None:
        self._state = state
        self._startup = startup
        self._device = device
        self._measurement = measurement
        self._rule = rule
        self._reader = Reader(rule)

    def find(self, number: int) -> tuple[Where, int | None]:
        """Return where the message is, and its dead letter if it has one."""
        known = self._state.sequences(self._startup, self._device).get(self._measurement)
        if known is None or known.last is None or number > known.last:
            return "not yet", None
        if known.is_missing(number):
            return "unknown" if known.unread else "missing", None
        name = self._rule.sequence_field
        fields = f"{name}={number}i", f"{name}={float(number)!r}"  # as an integer, or in a field of floats
        waits = self._state.is_waiting(self._startup, self._device, self._measurement, fields)
        if waits:
            return "waiting", None
        if letter := self._dead_letter(number, fields):
            return "refused" if letter.is_line else "rejected", letter.id
        if waits is None:
            return "unknown", None
        is_certain = not (known.rejected or known.unread or known.forgotten)
        return "stored" if is_certain or self._keeps_all_letters() else "unknown", None

    def _dead_letter(self, number: int, fields: tuple[str, str]) -> DeadLetter | None:
        page = self._state.dead_letters(self._startup, before=NEWEST, limit=LETTERS)
        for listed in page.letters:
            if listed.rejection.device != self._device:
                continue
            letter = self._state.dead_letter(listed.id)
            if letter and self._is_of(letter, number, fields):
                return letter
        return None

    def _is_of(self, letter: DeadLetter, number: int, fields: tuple[str, str]) -> bool:
        payload = letter.rejection.payload
        if letter.is_line:
            return payload.startswith(f"{self._measurement},".encode()) and any(
                one.encode() in payload for one in fields
            )
        records = self._reader.records(payload)
        if isinstance(records, Reason):
            return False
        seq = self._rule.seq
        return seq is not None and any(pick(record, seq) == number for record in records.values)

    def _keeps_all_letters(self) -> bool:
        """Return whether all dead letters of the startup were looked at."""
        totals = self._state.totals(self._startup).get(self._startup)
        return totals is None or (not totals.dropped and totals.kept <= LETTERS)
