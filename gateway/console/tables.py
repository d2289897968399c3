"""Rows of the tables, and the figures above them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gateway.computing import Computing
from gateway.config import Startup
from gateway.console import formatting
from gateway.console.sampler import Rates
from gateway.model import UNROUTED, Counts
from gateway.state.devices import Device
from gateway.timestamps import NS

Row = dict[str, Any]
"""`key`, perhaps `link`, and `cells`: column -> text, sort key, remark."""

DEVICES_SHOWN = 200
COUNTED_AT_ONCE = 1000
DEVICE_COLUMNS = (
    {"name": "device", "label": "Device", "kind": "text"},
    {"name": "state", "label": "State", "kind": "state"},
    {"name": "seen", "label": "Last seen", "kind": "text"},
    {"name": "accepted", "label": "Accepted", "kind": "number"},
    {"name": "rejected", "label": "Rejected", "kind": "number"},
    {"name": "clock", "label": "Clock", "kind": "state", "wide": True, "title": "Its times against their arrival"},
)
STARTUP_COLUMNS = (
    {"name": "startup", "label": "Startup", "kind": "link"},
    {"name": "cohort", "label": "Cohort", "kind": "text", "wide": True},
    {"name": "rate", "label": "Rate", "kind": "number", "title": "Records received per second, over ten seconds"},
    {"name": "received", "label": "Received", "kind": "number", "wide": True},
    {"name": "accepted", "label": "Accepted", "kind": "number", "wide": True},
    {"name": "rejected", "label": "Rejected", "kind": "number"},
    {"name": "stored", "label": "Stored", "kind": "number", "wide": True},
    {"name": "journaled", "label": "Waiting", "kind": "number", "wide": True, "title": "In the journal"},
    {"name": "refused", "label": "Refused", "kind": "number", "wide": True, "title": "By the store"},
    {"name": "balanced", "label": "Ledger", "kind": "state"},
    {"name": "devices", "label": "Devices", "kind": "text", "wide": True},
    {"name": "session", "label": "Session", "kind": "state", "wide": True},
    {"name": "store", "label": "Store", "kind": "state", "wide": True},
)  # fmt: skip

_REMARKS = {
    "ok": "its newest message was accepted",
    "rejected": "its newest message was rejected, or part of it",
    "silent": "nothing received for more than {}",
}


def device_rows(startup: Startup, devices: Sequence[Device], now_ns: int) -> list[Row]:
    """Return one row for each device, by name; a bounded number of them."""
    return [_device_row(startup, device, now_ns) for device in devices[:DEVICES_SHOWN]]


def _device_row(startup: Startup, device: Device, now_ns: int) -> Row:
    state = device.state(now_ns, startup.topics)
    remark = _REMARKS[state].format(formatting.span(device.silent_after_ns(startup.topics) / NS))
    return {
        "key": device.device,
        "cells": {
            "device": (device.device,),
            "state": (state, state, remark),
            "seen": (formatting.ago(device.last_ns, now_ns), -device.last_ns // 1_000_000_000),
            "accepted": (formatting.count(device.accepted), device.accepted),
            "rejected": (formatting.count(device.rejected), device.rejected),
            "clock": _clock_cell(device),
        },
    }


def _clock_cell(device: Device) -> tuple[str, ...]:
    if device.clock and device.clock.fault:
        return device.clock.fault.replace("_", " "), "bad", device.clock.says
    if device.overwritten:
        remark = "readings had the time of another one of their series, and replaced it"
        return "same times", "bad", f"{formatting.count(device.overwritten)} {remark}"
    return ("ok", "good", f"{device.clock.offset:+.1f} s") if device.clock else ("–", "none")


async def states_of(startup: Startup, devices: Sequence[Device], now_ns: int, computing: Computing) -> Counter[str]:
    """Count a startup's devices by state, some at a time."""
    counted: Counter[str] = Counter()
    for start in range(0, len(devices), COUNTED_AT_ONCE):
        several = devices[start : start + COUNTED_AT_ONCE]
        counted += await computing.run(startup.slug, partial(states, startup, several, now_ns))
    return counted


def states(startup: Startup, devices: Sequence[Device], now_ns: int) -> Counter[str]:
    """Count a startup's devices by state."""
    return Counter(device.state(now_ns, startup.topics) for device in devices)


def states_in_words(counted: Mapping[str, int]) -> str:
    """Format counts by state: `11 ok, 1 silent`, or `none yet`."""
    parts = [f"{counted[state]} {state}" for state in ("ok", "rejected", "silent") if counted.get(state)]
    return ", ".join(parts) or "none yet"


def startup_row(
    startup: Startup,
    counts: Counts,
    rates: Rates,
    devices: Mapping[str, int],
    session_problem: str = "",
    store_problem: str = "",
) -> Row:
    """Return the row of a startup, as an operator sees it."""
    row = _ledger_row(startup.slug, startup.name, counts, rates)
    row["link"] = f"/startups/{startup.slug}"
    row["cells"] |= {
        "cohort": (startup.cohort or "–",),
        "devices": (states_in_words(devices), sum(devices.values())),
        "session": ("away", "bad", session_problem) if session_problem else ("ok", "good", "its messages arrive"),
        "store": ("waiting", "bad", store_problem) if store_problem else ("ok", "good", "it stores readings"),
    }
    return row


def stray_row(slug: str, counts: Counts, rates: Rates) -> Row:
    """Return the row of no startup, or of one that is no longer configured."""
    name = "no startup" if slug == UNROUTED else f"{slug} (no longer configured)"
    row = _ledger_row(slug, name, counts, rates)
    row["cells"] |= {"cohort": ("–",), "devices": ("–", 0), "session": ("–", "none"), "store": ("–", "none")}
    return row


def _ledger_row(slug: str, name: str, counts: Counts, rates: Rates) -> Row:
    wrong = formatting.imbalance(counts)
    numbers = {
        column: (formatting.count(value), value) for column, value in counts.as_json().items() if column != "balanced"
    }
    return {
        "key": slug,
        "cells": {
            "startup": (name,),
            "rate": (formatting.rate(rates.received), round(rates.received, 2)),
            **numbers,
            "balanced": ("does not balance", "bad", wrong) if wrong else ("balanced", "good"),
        },
    }
