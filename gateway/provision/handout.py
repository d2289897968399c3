"""What a startup needs to begin, on one page of Markdown. It holds secrets: hand it over, do not keep it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from gateway import timestamps
from gateway.config import FieldRule, Startup
from gateway.provision.plan import Credential


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the startup reaches things."""

    mqtt: str
    http: str
    grafana: str


def handout(
    startup: Startup, credentials: Sequence[Credential], endpoints: Endpoints, now_ns: int, api_token: str = ""
) -> str:
    """The page. Its example message has the time `now_ns`."""
    own = [one for one in credentials if one.startup == startup.slug]
    rules = "\n".join(f"| `{rule.template.text}` | {_fields(startup, name)} |" for name, rule in startup.topics.items())
    accounts = "\n".join(f"| {one.whose} | `{one.name}` | `{one.secret}` |" for one in own)
    token = f"| HTTP API token | | `{api_token}` |\n" if api_token else ""
    until = f" It ends on {startup.until}." if startup.until else ""
    cohort = f" You are part of {startup.cohort}." if startup.cohort else ""
    return f"""# {startup.name} on the test bed

Keep this page safe: the secrets on it are shown once and stored nowhere.{cohort}{until}

## Where

| what | address |
|---|---|
| MQTT broker | `{endpoints.mqtt}` |
| Web page and HTTP API | <{endpoints.http}> |
| Grafana | {f"<{endpoints.grafana}>" if endpoints.grafana else "not set up"} |

## Your accounts

| for | name | secret |
|---|---|---|
{token}{accounts or "| | | nothing new was made |"}

A device signs in with its own account and publishes below `testbed/{startup.slug}/DEVICE/`. Whatever the gateway
refuses it answers on `feedback/{startup.slug}/DEVICE`: what was expected, what came, and where.
The account `{startup.slug}` reads `feeds/{startup.slug}/#` and `feedback/{startup.slug}/#`.

## What the gateway takes

| topic | fields |
|---|---|
{rules}

## First message

```
mosquitto_pub {_address(endpoints.mqtt)} -u {startup.slug}.DEVICE -P SECRET -q 1 \\
  -t {quote(_example_topic(startup))} -m {quote(_example_payload(startup, now_ns))}
```

Then look at <{endpoints.http}> with your API token, or:

```
curl -H "Authorization: Bearer TOKEN" {endpoints.http}/v1/startups/{startup.slug}/latest
```
"""


def _fields(startup: Startup, name: str) -> str:
    rule = startup.topics[name]
    return ", ".join(
        f"`{rule.pointer(field)}` {one.type}{f' ({one.unit})' if one.unit else ''}"
        for field, one in rule.fields.items()
    )


def _example_topic(startup: Startup) -> str:
    rule = next(iter(startup.topics.values()))
    return rule.template.text.replace("{device}", "DEVICE").replace("{", "").replace("}", "")


def _example_payload(startup: Startup, now_ns: int) -> str:
    """A message that the first rule accepts today: its required fields with values in their range, and the time."""
    rule = next(iter(startup.topics.values()))
    record: dict[str, Any] = {}
    required = [name for name, field in rule.fields.items() if field.required]
    for name in required or list(rule.fields)[:1]:  # a reading has at least one field
        _put(record, rule.pointer(name).tokens, _example(rule.fields[name]))
    if rule.time:
        _put(record, rule.time.from_.tokens, _now(rule.time.unit, now_ns))
    return json.dumps(record)


def _put(record: Any, tokens: Sequence[str | int], value: Any) -> None:
    """Put a value where a JSON Pointer says, with the objects and arrays that lead there."""
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if isinstance(token, int):
            record.extend([None] * (token + 1 - len(record)))
        held = record[token] if isinstance(token, int) else record.get(token)
        if after is None:
            record[token] = value
        elif held is None:
            record[token] = [] if isinstance(after, int) else {}
        record = record[token]


def _now(unit: str, now_ns: int) -> int | str:
    if unit == "rfc3339":
        return timestamps.to_rfc3339(now_ns // timestamps.NS * timestamps.NS)
    return now_ns // {"s": timestamps.NS, "ms": 1_000_000, "us": 1000, "ns": 1}[unit]


def _example(field: FieldRule) -> Any:
    match field.type:
        case "bool":
            return True
        case "string":
            return "text"
    low = field.min if field.min is not None else min(0.0, field.max or 0.0)
    high = field.max if field.max is not None else low + 2
    return math.ceil(low) + int(high - math.ceil(low)) // 2 if field.type == "int" else low / 2 + high / 2


def _address(url: str) -> str:
    """How mosquitto_pub takes an MQTT URL."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = parts.port or (8883 if parts.scheme == "mqtts" else None)
    return f"-h {parts.hostname or 'HOST'}" + (f" -p {port}" if port else "")
