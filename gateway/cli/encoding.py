"""Output of commands: a character that a stream lacks never ends a command, and none does anything to a terminal."""

from __future__ import annotations

import codecs
import io
import json
import sys

PLAIN = {"✓": "+", "✗": "x", "…": "...", "→": "->"}
"""Characters that commands themselves print, each with its plain form."""


def substitute(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks (an error handler of `codecs`): by its plain form, or escaped as in JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character) or json.dumps(character)[1:-1] for character in lacking), error.end


def accept_every_character() -> None:
    """Let standard output and standard error take any text, for the rest of the process."""
    codecs.register_error("substitute", substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="substitute")


def as_json(body: object, indent: int | None = None) -> str:
    """Return JSON for standard output, in which no value is changed.

    What is not printed as itself is escaped; where the output is not UTF-8, so is all beyond ASCII.
    """
    text = json.dumps(body, indent=indent, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf"))
    if text.replace("\n", "").isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
