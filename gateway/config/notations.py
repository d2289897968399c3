"""Notations of the configuration: durations, sizes, rates, JSON Pointers, slugs."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    InstanceOf,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from gateway.errors import TemplateInvalid
from gateway.payloads import FORMATS
from gateway.topics import DEVICE_RULE, Template, device_is_legal

MAX_PORT = 65_535
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_BYTES = {"B": 1, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
LONGEST_YEARS = 100
"""Maximum of any duration: now plus or minus that, in ns since 1970, still fits into 64 bits."""
_NUMBER = r"(\d{1,12}(?:\.\d{1,12})?)"
_DURATION = re.compile(_NUMBER + r"\s*(ms|s|m|h|d|w|y)")
_SIZE = re.compile(_NUMBER + r"\s*(B|KB|MB|GB|KiB|MiB|GiB)")
_RATE = re.compile(_NUMBER + r"\s*/\s*(s|m|h)")
SLUG = r"^[a-z][a-z0-9-]{1,30}$"
NAME = r"^[A-Za-z][A-Za-z0-9_]{0,62}$"
_POINTER = re.compile(r"(/([^~/]|~[01])*)+")
_INDEX = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)


def expected(what: str, got: str = "", loc: Sequence[str] = ()) -> PydanticCustomError:
    """Return the error of a value that is not `what`; the loader adds file, line and, without `got`, the value.

    `loc` leads from the model that finds the error to the value concerned.
    """
    return PydanticCustomError("expected", "{what}", {"what": what, "got": got, "loc": list(loc)})


def parse_duration(value: object) -> float:
    """Return the seconds of `90d`, `5m`, `1.5h`, `200ms`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) * _SECONDS[match[2]] if match else math.inf
    if seconds > LONGEST_YEARS * _SECONDS["y"]:
        raise expected(f"a duration such as 30s, 5m, 12h or 90d, of at most {LONGEST_YEARS}y")
    return seconds


def parse_size(value: object) -> int:
    """Return the bytes of `64KiB`, `2GiB`, `500KB`."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(float(match[1]) * _BYTES[match[2]]) if match else 0
    if size == 0:
        raise expected("a size above 0 such as 500B, 64KiB or 2GiB")
    return size


def parse_rate(value: object) -> float:
    """Return the messages per second of `200/s`, `30/m`."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise expected("a rate above 0 such as 200/s or 30/m")
    return float(match[1]) / _SECONDS[match[2]]


def matching(pattern: str, what: str) -> AfterValidator:
    """Require a string that matches `pattern`, which `what` says in words. A group named `port` must be a port."""

    def check(value: str) -> str:
        match = re.fullmatch(pattern, value)
        if match is None or int(match.groupdict().get("port") or 0) > MAX_PORT:
            raise expected(what)
        return value

    return AfterValidator(check)


def between(least: int, most: int) -> AfterValidator:
    """Require a duration between two numbers of seconds."""

    def check(value: float) -> float:
        if not least <= value <= most:
            raise expected(f"a duration from {least}s to {most}s", f"{value:g}s")
        return value

    return AfterValidator(check)


class Pointer(NamedTuple):
    """A JSON Pointer (RFC 6901): `/meter/voltage`, `/values/0`. A number picks from an array."""

    tokens: tuple[str | int, ...]

    def __str__(self) -> str:
        return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in self.tokens)


def parse_pointer(value: object) -> Pointer:
    """Return a JSON Pointer that names at least one member."""
    if isinstance(value, Pointer):
        return value
    if not isinstance(value, str) or not _POINTER.fullmatch(value):
        raise expected("a JSON Pointer such as /temperature or /meter/voltage (write ~ as ~0, / as ~1)")
    tokens = (part.replace("~1", "/").replace("~0", "~") for part in value[1:].split("/"))
    parts = tuple(int(token) if _INDEX.fullmatch(token) else token for token in tokens)
    if isinstance(parts[0], int):
        parts = (str(parts[0]), *parts[1:])  # a record is an object, so its first token is a member's name
    return Pointer(parts)


def parse_template(value: object) -> Template:
    """Return a topic template; see `gateway.topics`."""
    if isinstance(value, Template):
        return value
    if not isinstance(value, str):
        raise expected("a topic template such as testbed/acme/{device}/climate")
    try:
        return Template.parse(value)
    except TemplateInvalid as error:
        raise expected(error.expected) from error


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(value: object) -> Network:
    """Return the network of `10.0.0.0/8`; an address alone is a network of one."""
    if isinstance(value, Network):
        return value
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise expected("an address such as 127.0.0.1, or a network such as 10.0.0.0/8 or fd00::/8") from None


def _string_schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _from_directory(path: Path, info: ValidationInfo) -> Path:
    """Resolve a relative path from the configuration's directory, wherever the gateway was started."""
    directory: Path | None = (info.context or {}).get("directory")
    return directory / path if directory else path


def _device(value: str) -> str:
    if not device_is_legal(value):
        raise expected(f"a device name of {DEVICE_RULE}")
    return value


def _payload_format(value: str) -> str:
    if value not in FORMATS:
        raise expected(f"a payload format: {', '.join(FORMATS)}")
    return value


def _one_or_several(value: object) -> object:
    """Return a list: a name alone is a list of one."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise expected("a name, or a list of names such as [north, south]")
    if len(set(names)) < len(names):
        raise expected("each name once", ", ".join(names))
    return names


PathField = Annotated[Path, AfterValidator(_from_directory)]
Duration = Annotated[float, BeforeValidator(parse_duration), _string_schema(f"^{_DURATION.pattern}$", "90d", "5m")]
Size = Annotated[int, BeforeValidator(parse_size), _string_schema(f"^{_SIZE.pattern}$", "64KiB")]
Rate = Annotated[float, BeforeValidator(parse_rate), _string_schema(f"^{_RATE.pattern}$", "200/s")]
PointerField = Annotated[
    InstanceOf[Pointer], BeforeValidator(parse_pointer), _string_schema("^/", "/t", "/meter/voltage")
]
TemplateField = Annotated[
    InstanceOf[Template], BeforeValidator(parse_template), _string_schema("", "testbed/acme/{device}/climate")
]
NetworkField = Annotated[
    InstanceOf[ipaddress.IPv4Network] | InstanceOf[ipaddress.IPv6Network],
    BeforeValidator(parse_network),
    _string_schema("^[0-9A-Fa-f.:/]+$", "127.0.0.1", "10.0.0.0/8"),
]
PayloadFormat = Annotated[
    str, AfterValidator(_payload_format), WithJsonSchema({"type": "string", "enum": list(FORMATS)})
]
DeviceName = Annotated[str, AfterValidator(_device)]
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Slugs = Annotated[
    tuple[Slug, ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema({"type": ["string", "array"], "pattern": SLUG, "items": {"type": "string", "pattern": SLUG}}),
]
Name = Annotated[str, StringConstraints(pattern=NAME)]
"""A measurement, field or tag: legal unquoted in line protocol, InfluxQL, SQL and CSV alike."""
