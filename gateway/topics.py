"""Topic grammar: parse a template, match a topic, make a subscription filter, find overlaps.

A template is an MQTT topic name (MQTT 5.0, section 4.7) in which a whole level may be a capture:

    testbed/acme/{device}/climate

`{device}` is captured as the device, any other name becomes a tag. A capture matches exactly one level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, NamedTuple, TypeVar

from gateway.errors import TemplateInvalid

ROOT = "testbed"
MAX_TOPIC_BYTES = 65_535

_CAPTURE = re.compile(r"\{([a-z][a-z0-9_]{0,62})\}")
_DEVICE = re.compile(r"\w[\w.:@-]{0,63}")
DEVICE_RULE = "1 to 64 letters, digits or _ . : @ - (the first a letter, digit or _)"

T = TypeVar("T")


class Capture(NamedTuple):
    """A level of a template that matches any one level."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed topic template: literal levels and captures."""

    text: str
    levels: tuple[str | Capture, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse a template such as `testbed/acme/{device}/climate`.

        Raises:
            TemplateInvalid: not a valid topic, a broken or repeated capture, or no `{device}`.
        """
        if not text or len(text.encode()) > MAX_TOPIC_BYTES:
            raise TemplateInvalid(f"a topic of 1 to {MAX_TOPIC_BYTES} bytes", f"{len(text.encode())} bytes")
        levels = tuple(_parse_level(level, text) for level in text.split("/"))
        names = [level.name for level in levels if isinstance(level, Capture)]
        if names.count("device") != 1:
            raise TemplateInvalid("{device} exactly once, so that each message has its device", repr(text))
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise TemplateInvalid("each captured name once", f"{{{doubled}}} twice in {text!r}")
        if isinstance(levels[0], Capture):
            raise TemplateInvalid("a literal first level: a capture there would match all topics", repr(text))
        if levels[0] in ("feeds", "feedback") or levels[0].startswith("$"):
            raise TemplateInvalid(
                "a topic outside feeds/, feedback/ and $…, which belong to the gateway and the broker", repr(text)
            )
        return cls(text, levels)

    @property
    def filter(self) -> str:
        """MQTT topic filter that matches every topic of this template."""
        return "/".join("+" if isinstance(level, Capture) else level for level in self.levels)

    @property
    def captures(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.levels if isinstance(level, Capture))

    def overlaps(self, other: Template) -> bool:
        """Return whether some topic matches both."""
        return all(
            a is not None and b is not None and (a == b or isinstance(a, Capture) or isinstance(b, Capture))
            for a, b in zip_longest(self.levels, other.levels)
        )


def _parse_level(level: str, text: str) -> str | Capture:
    if match := _CAPTURE.fullmatch(level):
        return Capture(match[1])
    if "{" in level or "}" in level:
        raise TemplateInvalid("a capture as a whole level, such as /{device}/", f"{level!r} in {text!r}")
    if set(level) & {"+", "#", "\0"}:
        raise TemplateInvalid("names and {captures}, no wildcards", f"{level!r} in {text!r}")
    return level


def subscriptions(templates: Iterable[Template], slug: str = "") -> tuple[str, ...]:
    """Return the filters for a startup: all below its own name, and each template outside testbed/. Without a slug,
    those for all startups.

    They never overlap, so that the broker delivers each message once.
    """
    outside = {template.filter for template in templates if template.levels[0] != ROOT}
    return (f"{ROOT}/{slug}/#" if slug else f"{ROOT}/#", *sorted(outside))


def slug_in(topic: str) -> str:
    """Return the slug in `testbed/SLUG/…`; empty for any other topic."""
    root, _, rest = topic.partition("/")
    return rest.partition("/")[0] if root == ROOT else ""


def device_is_legal(device: str) -> bool:
    """Return whether a name is valid in a topic, a tag, an ACL and a file name alike: see `DEVICE_RULE`."""
    return _DEVICE.fullmatch(device) is not None


class _Node(Generic[T]):
    __slots__ = ("capture", "end", "literals")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.capture: _Node[T] | None = None
        self.end: tuple[Template, T] | None = None


class Router(Generic[T]):
    """Finds the value of a topic, among templates that do not overlap."""

    def __init__(self, routes: Mapping[Template, T]) -> None:
        self._root: _Node[T] = _Node()
        for template, value in routes.items():
            self._add(template, value)

    def _add(self, template: Template, value: T) -> None:
        node = self._root
        for level in template.levels:
            if isinstance(level, Capture):
                node.capture = node.capture or _Node()
                node = node.capture
            else:
                node = node.literals.setdefault(level, _Node())
        node.end = (template, value)

    def match(self, topic: str) -> tuple[T, dict[str, str]] | None:
        """Return the value and the captured names of the one template that matches, or None."""
        levels = topic.split("/")
        for template, value in self._ends(self._root, levels, 0):
            captured = zip(template.levels, levels, strict=True)
            return value, {level.name: text for level, text in captured if isinstance(level, Capture)}
        return None

    def _ends(self, node: _Node[T], levels: list[str], depth: int) -> Iterator[tuple[Template, T]]:
        if depth == len(levels):
            if node.end is not None:
                yield node.end
            return
        if literal := node.literals.get(levels[depth]):
            yield from self._ends(literal, levels, depth + 1)
        if node.capture:
            yield from self._ends(node.capture, levels, depth + 1)
