"""How the page says things: units, ages, numbers, states, reasons. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from gateway.model import Counts, Reason, Rejection
from gateway.state.dead_letters import DeadLetter
from gateway.timestamps import NS

SHOWN_BYTES = 2000
SHOWN_REASONS = 6

# Grafana's names of units (the configuration uses them) as people write them. Others are shown as they stand.
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
    "bad_device": "The device’s name cannot be used",
    "bad_tag": "A tag cannot be used",
    "too_large": "The message is too large",
    "not_json": "The payload is not JSON",
    "empty": "There is nothing in it",
    "missing": "A value is missing",
    "wrong_type": "A value has the wrong type",
    "out_of_range": "A value is out of range",
    "not_finite": "A value is not a number",
    "unknown_field": "There is a field that the rule does not know",
    "bad_text": "A text cannot be kept",
    "bad_time": "The time cannot be right",
    "over_quota": "More than the quota allows",
    "ended": "The programme is over",
    "store_refused": "The store refused it",
}
_UNIT_AT_END = re.compile(r"\(([^()\s]+)\)$")
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"))


def unit(name: str) -> str:
    """`celsius` -> `°C`; empty where there is nothing to say."""
    return SYMBOLS.get(name, name)


def number(value: float) -> str:
    """A number of the configuration, as exact as it stands there: `1,234`, `21.5`, `−0.042`."""
    text = f"{int(value):,}" if value == int(value) else f"{value:,.10g}"
    return text.replace("-", "−")


def count(value: int) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,}"


def plural(value: int, one: str, several: str = "") -> str:
    """`1 device`, `2 devices`."""
    return f"{count(value)} {one if value == 1 else several or one + 's'}"


def rate(per_second: float) -> str:
    """A rate: two decimals below 1, one below 100, else none."""
    digits = 2 if 0 < per_second < 1 else 1 if per_second < 100 else 0
    text = f"{per_second:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: int, whole: int) -> str:
    """`0.4 %` of a whole; empty where there is no whole."""
    if not whole:
        return ""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "under 0.1 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def ago(then_ns: int, now_ns: int) -> str:
    """`just now`, `12 s ago`, `3 min ago`, `2 h ago`, `5 d ago`."""
    seconds = max(0, now_ns - then_ns) // NS
    if seconds < 3:
        return "just now"
    for size, name in _SPANS:
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def span(seconds: float) -> str:
    """Return a duration of the configuration, such as `15 min`, `90 s` or `2 d`."""
    for size, name in _SPANS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"


def day(value: date) -> str:
    """`30 Jun 2027`."""
    return f"{value.day} {value:%b %Y}"


def limits(minimum: float | None, maximum: float | None, symbol: str) -> str:
    """What a rule lets through: `accepts −40 to 125 °C`; empty for everything."""
    after = f" {symbol}" if symbol else ""
    if minimum is not None and maximum is not None:
        return f"accepts {number(minimum)} to {number(maximum)}{after}"
    if minimum is not None:
        return f"accepts {number(minimum)}{after} and more"
    if maximum is not None:
        return f"accepts up to {number(maximum)}{after}"
    return ""


def imbalance(counts: Counts) -> str:
    """What a ledger that does not balance says; empty where it does."""
    if counts.balanced:
        return ""
    arrived = counts.received - counts.accepted - counts.rejected
    kept = counts.accepted - counts.stored - counts.journaled - counts.refused
    told = [f"{count(abs(arrived))} {'too few' if arrived > 0 else 'too many'} accepted or rejected"] if arrived else []
    told += [f"{count(abs(kept))} {'too few' if kept > 0 else 'too many'} stored, waiting or refused"] if kept else []
    return "; ".join(told)


def title(reasons: Sequence[Reason]) -> str:
    """One line that says what is wrong; further kinds of wrong are counted."""
    codes = list(dict.fromkeys(reason.code for reason in reasons))
    if not codes:
        return "Refused"
    more = f", and {len(codes) - 1} more" if len(codes) > 1 else ""
    return _TITLES[codes[0].value] + more


def reason(told: Reason) -> dict[str, str]:
    """A reason as the page shows it, with units as people write them."""
    expected = _UNIT_AT_END.sub(lambda match: f"({unit(match[1])})", told.expected)
    return {"where": told.where, "expected": expected, "got": told.got, "hint": told.hint}


def rejection(refused: Rejection) -> dict[str, object]:
    """A rejection as the page shows it. What has the same `kind` is shown once, and counted."""
    shown = [reason(one) for one in refused.reasons[:SHOWN_REASONS]]
    kind = [refused.device, refused.topic, *sorted({f"{one.code} {_place(one.where)}" for one in refused.reasons})]
    return {
        "key": f"{refused.arrived_ns} {refused.topic}",
        "kind": "\n".join(kind),
        "device": refused.device,
        "topic": refused.topic,
        "at": refused.arrived_ns // 1_000_000,
        "title": title(refused.reasons),
        "reasons": shown,
        "more": len(refused.reasons) - len(shown),
        "records": _records(refused.records),
        "payload": payload(refused.payload),
        "bytes": plural(refused.size, "byte"),
    }


def letter(kept: DeadLetter) -> dict[str, object]:
    """A dead letter, likewise."""
    return rejection(kept.rejection)


def payload(raw: bytes) -> str:
    """The beginning of the bytes as text; what is no UTF-8 is shown escaped."""
    text = raw[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return text + "…" if len(raw) > SHOWN_BYTES else text


def _records(positions: Sequence[int]) -> str:
    """Which records of an array, counted from 1 as people do."""
    if not positions:
        return ""
    shown = ", ".join(str(position + 1) for position in positions[:8])
    more = ", …" if len(positions) > 8 else ""
    return f"record{'' if len(positions) == 1 else 's'} {shown}{more} of the array"


def _place(where: str) -> str:
    """Where, without the position in an array."""
    return re.sub(r"^/\d+(?=/|$)", "", where)
