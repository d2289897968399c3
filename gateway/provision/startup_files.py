"""Startups' files as commands write and edit them. Comments and order survive an edit."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.tokens import CommentToken

from gateway.config.notations import SLUG
from gateway.errors import ProvisionError
from gateway.state import private_files
from gateway.topics import DEVICE_RULE, device_is_legal

_TEMPLATE = """\
# {name}. Every setting is explained in docs/operators-guide.md; `gateway check` reports every error.
name: {name_yaml}
cohort: {cohort}
until: {until}
retention: 90d                        # how long readings are kept
{store}{host}quota: {{messages: 200/s, burst: 2000, devices: 500, series: 5000, payload: 64KiB}}
token_sha256: {token_sha256}
# e-mail addresses of those who may use Grafana
team: {team}
# each device gets an MQTT account: gateway devices add {slug} NAME
devices: {devices}

topics:
  climate:                            # the measurement: rename it, and add more beside it
    topic: testbed/{slug}/{{device}}/climate
    payload: json
    # time: {{from: /ts, unit: ms}}     # where the payload holds the time; without this: the time of arrival
    fields:
      temperature: {{type: float, unit: celsius, min: -40, max: 125}}
      humidity: {{type: float, unit: percent, min: 0, max: 100, required: false}}
    # tags: {{firmware: /fw}}
    unknown: reject                   # reject | drop | keep members that no rule names
"""


@dataclass(frozen=True, slots=True)
class NewStartup:
    """Startup that a new file is written for."""

    slug: str
    name: str
    cohort: str = ""
    until: date | None = None
    store: str | None = None
    host: str | None = None
    team: Sequence[str] = ()
    devices: Sequence[str] = ()

    @classmethod
    def parse(cls, text: str, cohort: str, until: date | None) -> NewStartup:
        """Return the startup of `slug` or `slug=Name`."""
        slug, _, name = text.partition("=")
        return cls(slug, name or slug.replace("-", " ").title(), cohort, until)

    def on(self, host: str | None) -> NewStartup:
        """Return the new startup on a host; it keeps a host that it has."""
        return self if self.host else replace(self, host=host)


def add(directory: Path, new: NewStartup, token_sha256: str) -> Path:
    """Write startups/SLUG.yaml from the template.

    Raises:
        ProvisionError: the slug is invalid, or is taken (also in another case of letters).
    """
    slug = new.slug
    if re.fullmatch(SLUG, slug) is None:
        raise ProvisionError(f"expected a slug of 2 to 31 letters a-z, digits and -, such as acme-air; got {slug!r}")
    folder = directory / "startups"
    if taken := [path for path in folder.glob("*") if path.stem.lower() == slug.lower()]:
        raise ProvisionError(
            f"{taken[0]} already exists: choose another slug, or edit it and run `gateway provision apply`"
        )
    path = folder / f"{slug}.yaml"
    text = _TEMPLATE.format(
        slug=slug,
        name=" ".join(new.name.split()),  # a comment is one line
        name_yaml=_scalar(new.name),
        cohort=_scalar(new.cohort),
        until=new.until or "null",
        store="" if new.store is None else f"store: {_scalar(new.store)}\n",
        host="" if new.host is None else f"host: {_scalar(new.host)}\n",
        team=_list(new.team),
        devices=_list(new.devices),
        token_sha256=_scalar(token_sha256),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        private_files.sync(path)
        private_files.sync(folder)
    except OSError as error:
        raise ProvisionError(f"{path}: cannot be written; {error.strerror}") from error
    return path


def remove(directory: Path, slug: str) -> None:
    """Remove startups/SLUG.yaml."""
    private_files.remove(directory / "startups" / f"{slug}.yaml")


def add_device(path: Path, device: str) -> None:
    """Add a device to `devices`.

    Raises:
        ProvisionError: the name is invalid, or the file cannot be written.
    """
    _add_name(path, "devices", device)


def block_device(path: Path, device: str) -> None:
    """Add a device to `blocked`, whether or not it is one of `devices`.

    Raises:
        ProvisionError: the name is invalid, or the file cannot be written.
    """
    _add_name(path, "blocked", device)


def _add_name(path: Path, key: str, device: str) -> None:
    if not device_is_legal(device):
        raise ProvisionError(f"expected a device name of {DEVICE_RULE}; got {device!r}")
    edit(path, lambda document: _append(document, key, device))


def unblock_device(path: Path, device: str) -> None:
    """Remove a device from `blocked`.

    Raises:
        ProvisionError: it is not there, or the file cannot be written.
    """

    def change(document: Any) -> None:
        blocked = document.get("blocked") or []
        if device not in blocked:
            raise ProvisionError(
                f"{path}: expected a blocked device ({', '.join(blocked) or 'none is'}); got {device!r}"
            )
        _remove(document, "blocked", blocked.index(device))

    edit(path, change)


def set_until(path: Path, until: date) -> None:
    """Set the end date."""

    def change(document: Any) -> None:
        document["until"] = until

    edit(path, change)


def set_hosts(path: Path, hosts: Sequence[str]) -> None:
    """Set the host of a startup, or the several that share its messages."""

    def change(document: Any) -> None:
        place = list(document).index("topics") if "topics" in document else len(document)
        several = CommentedSeq(hosts)
        several.fa.set_flow_style()
        value = hosts[0] if len(hosts) == 1 else several
        if "host" in document:
            document["host"] = value
        else:  # with the short settings, above the long one
            document.insert(place, "host", value)

    edit(path, change)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a file's document, and keep its comments; the file is replaced as a whole or not at all.

    Raises:
        ProvisionError: it does not exist, or cannot be written.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    try:
        document = yaml.load(path.read_text(encoding="utf-8"))
        change(document)
        text = io.StringIO()
        yaml.dump(document, text)
        new = path.with_suffix(".yaml.new")
        new.write_text(text.getvalue(), encoding="utf-8")
        new.chmod(path.stat().st_mode & 0o777)  # whoever may read it may still read it after the change
        private_files.sync(new)  # or a power cut may leave an empty file
        new.replace(path)
        private_files.sync(path.parent)
    except FileNotFoundError:
        raise ProvisionError(f"{path} does not exist: see `gateway startups list`") from None
    except OSError as error:
        raise ProvisionError(f"{path}: cannot be written; {error.strerror}") from error


def _append(document: Any, key: str, device: str) -> None:
    if document.get(key) is None:
        document[key] = CommentedSeq()
    devices = document[key]
    if device not in devices:
        if not devices:
            devices.fa.set_flow_style()  # `devices: []` grows on its own line
        devices.append(device)
        _keep_below(devices.ca.items, len(devices) - 1)


def _remove(document: Any, key: str, place: int) -> None:
    """Remove an item of a list. The comment below the list, which ruamel.yaml keeps at its last item, stays."""
    devices = document[key]
    held = devices.ca.items.get(place)
    del devices[place]
    below = held[0].value.partition("\n")[2] if held and held[0] and place == len(devices) else ""
    if not devices:
        devices.fa.set_flow_style()
    if not below:
        return
    if not devices:
        document.ca.items[key] = [None, None, CommentToken("\n" + below, held[0].start_mark), None]
    elif (last := devices.ca.items.get(place - 1)) and last[0]:
        last[0].value = last[0].value.rstrip("\n") + "\n" + below
    else:
        devices.ca.items[place - 1] = [CommentToken("\n" + below, held[0].start_mark), *held[1:]]


def _keep_below(comments: dict[int, list[CommentToken | None]], new: int) -> None:
    """Move the comment below a list on to its new last item, which is where ruamel.yaml keeps it."""
    held = comments.get(new - 1)
    if held and held[0]:
        beside, _, below = held[0].value.partition("\n")
        if below:
            comments[new] = [CommentToken("\n" + below, held[0].start_mark), *held[1:]]
            comments[new - 1] = [CommentToken(beside + "\n", held[0].start_mark) if beside else None, *held[1:]]


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_scalar, texts)) + "]"


def _scalar(text: str) -> str:
    """Return a YAML scalar, quoted if it must be."""
    out = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = True
    yaml.width = 10_000
    yaml.dump([text], out)
    return out.getvalue().strip()[1:-1]
