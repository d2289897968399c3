"""Payload formats: bytes to records, one file a format. In: a payload. Out: records of plain values, or one reason.

The format NAME is the object `FORMAT` of the file `NAME_format.py` in this package, and `payload: NAME` of a topic rule
names it. There is no other list: `FORMATS` finds the files. A rule declares its format, nothing is guessed.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from gateway.payloads.contract import Context, Decoder, Format, Member, Misfit, Record, Records

__all__ = ["FORMATS", "Context", "Decoder", "Format", "Member", "Misfit", "Record", "Records"]

_SUFFIX = "_format"


def _discover() -> dict[str, Format]:
    """Return the formats by name, in alphabetical order."""
    files = sorted(module.name for module in iter_modules(__path__) if module.name.endswith(_SUFFIX))
    return {file.removesuffix(_SUFFIX): import_module(f"{__name__}.{file}").FORMAT for file in files}


FORMATS = _discover()
