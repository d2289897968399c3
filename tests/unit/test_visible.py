"""Foreign text on a terminal, in a log, on a page."""

from __future__ import annotations

import sys
import unicodedata

from gateway.visible import visible


def test_only_what_is_printed_as_itself_is_kept() -> None:
    """Of all characters: no control, no newline, nothing that turns the rest around or cannot be encoded."""
    shown = set(visible("".join(map(chr, range(sys.maxunicode + 1)))))
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}


def test_ordinary_text_stays() -> None:
    """Letters of all scripts, signs and units are shown as they are; what is kept is kept."""
    assert visible("Grünland 21.5 °C – 温度 ✓") == "Grünland 21.5 °C – 温度 ✓"
    assert visible("a\nb\tc\x9b", keep="\n") == "a\nb\\tc\\x9b"
