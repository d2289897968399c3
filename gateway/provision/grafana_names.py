"""What things are called in Grafana. Pure.

A startup's things live in an organisation of its own, called `{name} ({slug})`: the name is for the people who switch
to it and may change, the slug in brackets at the end is what it is known by. UIDs count within one organisation, and
may have 40 of the characters that slugs and measurements are made of (Grafana, `util.ValidateUID`).
"""

from __future__ import annotations

import hashlib
import re

from gateway.config import Startup

LONGEST_UID = 40
_ROOM = len("-v99")
_HASH = 8
_ORG = re.compile(r".* \(([A-Za-z][A-Za-z0-9-]{1,30})\)", re.DOTALL)
_BESIDE = re.compile(r"(.+)-v([2-9]|[1-9]\d+)")

DATA_SOURCE = "Testbed"
FOLDER = "Testbed"
OVERVIEW = "all-devices"  # with a hyphen, so that it is no measurement


def org_name(startup: Startup) -> str:
    """`Acme Air (acme)`."""
    return f"{startup.name} ({startup.slug})"


def slug_of(org: str) -> str:
    """The slug in an organisation's name, as it is spelt there; empty where there is none."""
    match = _ORG.fullmatch(org)
    return match[1] if match else ""


def home_uid(slug: str) -> str:
    """The UID of a startup's data source, and of the folder for what is generated."""
    return f"testbed-{slug}"


def uid(*parts: str) -> str:
    """The parts joined, with room left for `beside`; what is too long or not in small letters ends in a hash."""
    text = "-".join(parts)
    if len(text) <= LONGEST_UID - _ROOM and text == text.lower():
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    return f"{text.lower()[: LONGEST_UID - _ROOM - _HASH - 1]}-{digest}"


def beside(base: str, number: int) -> str:
    """The UID of the `number`-th generated dashboard: the first one's own, then `-v2`, `-v3`, …"""
    return base if number == 1 else f"{base}-v{number}"


def split_beside(text: str) -> tuple[str, int]:
    """The inverse of `beside`."""
    match = _BESIDE.fullmatch(text)
    return (match[1], int(match[2])) if match else (text, 1)
