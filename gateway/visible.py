"""Foreign text, made safe to show: a terminal, a log or a page of text does what the operator expects.

A control character could move the cursor, change the title, begin a line of its own or (bidirectional) turn the rest
around, and so could show what nobody wrote.
"""

from __future__ import annotations


def visible(text: object, keep: str = "") -> str:
    """Return a text with everything escaped that is not printed as itself, but for the characters of `keep`.

    That is C0 and C1 controls, newlines of every kind, bidirectional and invisible formatting, lone surrogates, and
    characters that are not assigned.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in plain)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode()
