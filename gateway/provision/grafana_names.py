"""Names in Grafana. Pure.

A startup has an organisation of its own, called `{name} ({slug})`: the name is for people and may change; the slug in
brackets identifies it. UIDs are unique within an organisation, and may have 40 of the characters of slugs and
measurements (Grafana, `util.ValidateUID`).
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
OVERVIEW = "all-devices"  # with a hyphen, so that it cannot be a measurement


def org_name(startup: Startup) -> str:
    """Return the name of a startup's organisation: `Acme Air (acme)`."""
    return f"{startup.name} ({startup.slug})"


def slug_of(org: str) -> str:
    """Return the slug in an organisation's name, as spelt there; empty if there is none."""
    match = _ORG.fullmatch(org)
    return match[1] if match else ""


def home_uid(slug: str) -> str:
    """Return the UID of a startup's data source, and of its folder of generated dashboards."""
    return f"testbed-{slug}"


def uid(*parts: str) -> str:
    """Join parts to a UID, with room for `beside`; one that is too long or not lower-case ends in a hash."""
    text = "-".join(parts)
    if len(text) <= LONGEST_UID - _ROOM and text == text.lower():
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    return f"{text.lower()[: LONGEST_UID - _ROOM - _HASH - 1]}-{digest}"


def beside(base: str, number: int) -> str:
    """Return the UID of the `number`-th generated dashboard: that of the first, then with `-v2`, `-v3`, …"""
    return base if number == 1 else f"{base}-v{number}"


def split_beside(text: str) -> tuple[str, int]:
    """Split a UID into base and number: the inverse of `beside`."""
    match = _BESIDE.fullmatch(text)
    return (match[1], int(match[2])) if match else (text, 1)
