r"""Line protocol, read character by character as InfluxDB's reference describes it; knows nothing of the gateway.

    body        = { line "\n" }
    line        = measurement { "," key "=" value } " " field { "," field } [ " " timestamp ]
    field       = key "=" ( float | integer "i" | boolean | string )

Escapes, from the reference's table: a backslash before comma or space in a measurement; before comma, equals sign
or space in a tag key, tag value or field key; before double quote or backslash in a string. Any other backslash
is a backslash. A line break may stand in a string only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Value = float | int | bool | str

BOOLEANS = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}


class NotLineProtocol(Exception):
    """Invalid line protocol: what is wrong, and at which character."""


@dataclass
class Point:
    """One line; `time` is None where it has no timestamp."""

    measurement: str
    tags: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Value] = field(default_factory=dict)
    time: int | None = None


def parse(body: str) -> list[Point]:
    """Return all points of a body; lines that are empty or begin with # are passed over."""
    return _Parser(body).body()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def body(self) -> list[Point]:
        points = []
        while self.at < len(self.text):
            if self.peek() == "#":
                self.skip_comment()
            elif self.peek() == "\n":
                self.at += 1
            else:
                points.append(self.line())
        return points

    def line(self) -> Point:
        point = Point(self.name(ends=", ", escapable=", "))
        while self.peek() == ",":
            self.at += 1
            key = self.name(ends="=", escapable=",= ")
            self.expect("=")
            point.tags[key] = self.name(ends=", ", escapable=",= ")
        self.expect(" ")
        self.field(point)
        while self.peek() == ",":
            self.at += 1
            self.field(point)
        if self.peek() == " ":
            self.at += 1
            point.time = int(self.plain())
        if self.peek():
            self.expect("\n")
        return point

    def field(self, point: Point) -> None:
        key = self.name(ends="=", escapable=",= ")
        self.expect("=")
        point.fields[key] = self.string() if self.peek() == '"' else self.number_or_boolean()

    def name(self, ends: str, escapable: str) -> str:
        text = ""
        while (char := self.peek()) not in ("", "\n", *ends):
            following = self.text[self.at + 1 : self.at + 2]
            if char == "\\" and following and following in escapable:
                self.at += 1
                char = following
            elif char in escapable and escapable == ",= ":
                raise NotLineProtocol(f"{char!r} is not escaped at {self.at} of {self.text!r}")
            text += char
            self.at += 1
        if not text:
            raise NotLineProtocol(f"nothing where a name should stand, at {self.at} of {self.text!r}")
        return text

    def string(self) -> str:
        self.expect('"')
        text = ""
        while (char := self.peek()) != '"':
            if not char:
                raise NotLineProtocol(f"a string without an end in {self.text!r}")
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\"):
                self.at += 1
                char = self.peek()
            text += char
            self.at += 1
        self.expect('"')
        return text

    def number_or_boolean(self) -> Value:
        text = self.plain()
        if text in BOOLEANS:
            return BOOLEANS[text]
        if text.endswith("i"):
            return int(text[:-1])
        return float(text)

    def plain(self) -> str:
        start = self.at
        while self.peek() not in ("", ",", " ", "\n"):
            self.at += 1
        return self.text[start : self.at]

    def skip_comment(self) -> None:
        while self.peek() not in ("", "\n"):
            self.at += 1

    def expect(self, char: str) -> None:
        if self.peek() != char:
            raise NotLineProtocol(f"{self.peek()!r} instead of {char!r} at {self.at} of {self.text!r}")
        self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]
