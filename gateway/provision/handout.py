"""What a startup needs to begin, on one page of Markdown. It holds secrets: hand it over, do not keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.config import Startup
from gateway.provision.plan import Credential


@dataclass(frozen=True, slots=True)
class Places:
    """Where the startup reaches things."""

    mqtt: str
    http: str
    grafana: str


def handout(startup: Startup, credentials: Sequence[Credential], places: Places, api_token: str = "") -> str:
    """The page."""
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
| MQTT broker | `{places.mqtt}` |
| Web page and HTTP API | <{places.http}> |
| Grafana | {f"<{places.grafana}>" if places.grafana else "not set up"} |

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
mosquitto_pub -h {_host(places.mqtt)} -u {startup.slug}.DEVICE -P SECRET -q 1 \\
  -t {_example_topic(startup)} -m '{_example_payload(startup)}'
```

Then look at <{places.http}> with your API token, or:

```
curl -H "Authorization: Bearer TOKEN" {places.http}/v1/startups/{startup.slug}/latest
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


def _example_payload(startup: Startup) -> str:
    """The required fields of the first rule that stand at the top of the payload, with values in their range."""
    rule = next(iter(startup.topics.values()))
    parts = []
    for name, field in rule.fields.items():
        tokens = rule.pointer(name).tokens
        if field.required and len(tokens) == 1:
            parts.append(f'"{tokens[0]}": {_example(field.type, field.min, field.max)}')
    return "{" + ", ".join(parts) + "}"


def _example(kind: str, lowest: float | None, highest: float | None) -> str:
    match kind:
        case "bool":
            return "true"
        case "string":
            return '"text"'
    low = 0 if lowest is None else lowest
    high = low + 2 if highest is None else highest
    middle = (low + high) / 2
    return str(round(middle)) if kind == "int" else f"{middle:g}"


def _host(url: str) -> str:
    return url.split("://")[-1].split(":")[0].rstrip("/") or "HOST"
