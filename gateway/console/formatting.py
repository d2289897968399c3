"""Formatting for the page: units, ages, numbers, states, reasons. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from gateway.model import Counts, Reason, Rejection
from gateway.timestamps import NS

SHOWN_BYTES = 2000
SHOWN_REASONS = 6

# Grafana's names of units, which the configuration uses, as people write them. Others are shown as they are.
SYMBOLS = {
    "celsius": "°C", "fahrenheit": "°F", "kelvin": "K",
    "percent": "%", "percentunit": "of 1", "humidity": "% RH",
    "volt": "V", "mvolt": "mV", "kvolt": "kV", "amp": "A", "mamp": "mA", "ohm": "Ω",
    "watt": "W", "kwatt": "kW", "mwatt": "mW", "megwatt": "MW", "voltamp": "VA",
    "watth": "Wh", "kwatth": "kWh", "joule": "J",
    "ppm": "ppm", "conppm": "ppm", "ppb": "ppb", "conppb": "ppb",
    "conμgm3": "µg/m³", "conmgm3": "mg/m³", "congm3": "g/m³",
    "flowlpm": "L/min", "flowcms": "m³/s", "litre": "L", "mlitre": "mL", "m3": "m³",
    "pressurehpa": "hPa", "pressurembar": "mbar", "pressurebar": "bar", "pressurekpa": "kPa", "pressurepsi": "psi",
    "lux": "lx", "dB": "dB", "dBm": "dBm", "hertz": "Hz", "rotrpm": "rpm", "degree": "°",
    "velocityms": "m/s", "velocitykmh": "km/h", "accMS2": "m/s²",
    "lengthmm": "mm", "lengthcm": "cm", "lengthm": "m", "lengthkm": "km", "massg": "g", "masskg": "kg",
    "s": "s", "ms": "ms", "µs": "µs", "m": "min", "h": "h", "d": "d",
    "bytes": "B", "decbytes": "B", "short": "", "none": "",
}  # fmt: skip

_TITLES = {
    "no_rule": "No rule matches this topic",
    "bad_device": "Invalid device name",
    "bad_tag": "Invalid tag",
    "too_large": "The message is too large",
    "not_json": "The payload is not JSON",
    "empty": "The message is empty",
    "missing": "A value is missing",
    "wrong_type": "A value has the wrong type",
    "out_of_range": "A value is out of range",
    "not_finite": "A value is not a finite number",
    "unknown_field": "Unknown field",
    "bad_text": "A string cannot be stored",
    "type_conflict": "A field has another type",
    "bad_time": "Invalid time",
    "over_quota": "Over the quota",
    "blocked": "The device is blocked",
    "ended": "The programme has ended",
    "store_refused": "The store refused it",
}
_UNIT_AT_END = re.compile(r"\(([^()\s]+)\)$")
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"))


def unit(name: str) -> str:
    """Return the symbol of a unit, such as `°C` for `celsius`; empty if there is none."""
    return SYMBOLS.get(name, name)


def number(value: float) -> str:
    """Format a number of the configuration exactly: `1,234`, `21.5`, `−0.042`."""
    text = f"{int(value):,}" if value == int(value) else f"{value:,.10g}"
    return text.replace("-", "−")


def count(value: int) -> str:
    """Format an integer, with its thousands separated."""
    return f"{value:,}"


def plural(value: int, one: str, several: str = "") -> str:
    """Format a count of things: `1 device`, `2 devices`."""
    return f"{count(value)} {one if value == 1 else several or one + 's'}"


def rate(per_second: float) -> str:
    """Format a rate: with two decimals below 1, one below 100, else none."""
    digits = 2 if 0 < per_second < 1 else 1 if per_second < 100 else 0
    text = f"{per_second:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: int, whole: int) -> str:
    """Format a part of a whole, such as `0.4 %`; empty if the whole is zero."""
    if not whole:
        return ""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "under 0.1 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def ago(then_ns: int, now_ns: int) -> str:
    """Format an age: `just now`, `12 s ago`, `3 min ago`, `2 h ago`, `5 d ago`."""
    seconds = max(0, now_ns - then_ns) // NS
    if seconds < 3:
        return "just now"
    for size, name in _SPANS:
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def span(seconds: float) -> str:
    """Format a duration of the configuration exactly: `15 min`, `90 s`, `2 d`."""
    for size, name in _SPANS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"


def day(value: date) -> str:
    """Format a date: `30 Jun 2027`."""
    return f"{value.day} {value:%b %Y}"


def limits(minimum: float | None, maximum: float | None, symbol: str) -> str:
    """Format the range of a rule, such as `accepts −40 to 125 °C`; empty if it has none."""
    after = f" {symbol}" if symbol else ""
    if minimum is not None and maximum is not None:
        return f"accepts {number(minimum)} to {number(maximum)}{after}"
    if minimum is not None:
        return f"accepts {number(minimum)}{after} and more"
    if maximum is not None:
        return f"accepts up to {number(maximum)}{after}"
    return ""


def imbalance(counts: Counts) -> str:
    """Explain how a ledger does not balance; empty if it does."""
    if counts.balanced:
        return ""
    arrived = counts.received - counts.accepted - counts.rejected
    kept = counts.accepted - counts.stored - counts.journaled - counts.refused
    wrong = (
        [f"{count(abs(arrived))} {'too few' if arrived > 0 else 'too many'} accepted or rejected"] if arrived else []
    )
    wrong += [f"{count(abs(kept))} {'too few' if kept > 0 else 'too many'} stored, waiting or refused"] if kept else []
    return "; ".join(wrong)


def title(reasons: Sequence[Reason]) -> str:
    """Summarize reasons in one line; further kinds are counted."""
    codes = list(dict.fromkeys(reason.code for reason in reasons))
    if not codes:
        return "Rejected"
    more = f", and {len(codes) - 1} more" if len(codes) > 1 else ""
    return _TITLES[codes[0].value] + more


def reason(found: Reason) -> dict[str, str]:
    """Format a reason, with units as people write them."""
    expected = _UNIT_AT_END.sub(lambda match: f"({unit(match[1])})", found.expected)
    return {"where": found.where, "expected": expected, "got": found.got, "hint": found.hint}


def rejection(one: Rejection) -> dict[str, object]:
    """Format a rejection. Those of the same `kind` are shown once, and counted."""
    shown = [reason(why) for why in one.reasons[:SHOWN_REASONS]]
    kind = [one.device, one.topic, *sorted({f"{why.code} {_place(why.where)}" for why in one.reasons})]
    return {
        "key": f"{one.arrived_ns} {one.topic}",
        "kind": "\n".join(kind),
        "device": one.device,
        "topic": one.topic,
        "at": one.arrived_ns // 1_000_000,
        "title": title(one.reasons),
        "reasons": shown,
        "more": len(one.reasons) - len(shown),
        "records": _records(one.records),
        "payload": payload(one.payload),
        "bytes": plural(one.size, "byte"),
    }


def payload(raw: bytes) -> str:
    """Return the beginning of the bytes as text; whatever is not UTF-8 is escaped."""
    text = raw[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return text + "…" if len(raw) > SHOWN_BYTES else text


def _records(positions: Sequence[int]) -> str:
    """List records of an array, counted from 1 as people do."""
    if not positions:
        return ""
    shown = ", ".join(str(position + 1) for position in positions[:8])
    more = ", …" if len(positions) > 8 else ""
    return f"record{'' if len(positions) == 1 else 's'} {shown}{more} of the array"


def _place(where: str) -> str:
    """Return where, without the position in an array."""
    return re.sub(r"^/\d+(?=/|$)", "", where)
