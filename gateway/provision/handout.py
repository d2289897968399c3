"""Hand-out: all that a startup needs to begin, on one page of Markdown. It contains secrets: do not keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Self
from urllib.parse import urlsplit

from gateway.config import Config, Startup
from gateway.provision.plan import Credential
from gateway.provision.settings import ProvisionSettings
from gateway.rules.example import example


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses that a startup uses."""

    mqtt: str
    http: str
    grafana: str = ""

    @classmethod
    def of(cls, config: Config, settings: ProvisionSettings) -> Self:
        """Return the addresses that the operators set; where they set none, those that the gateway itself uses."""
        grafana, http = settings.grafana, config.settings.http
        scheme = "https" if http.cert_file else "http"
        return cls(
            settings.mqtt_url or config.settings.mqtt.url,
            settings.http_url or f"{scheme}://{http.listen}",
            (grafana.public_url or grafana.url) if grafana else "",
        )

    def on_host(self, config: Config, startup: Startup) -> Self:
        """Return the addresses of a startup: over HTTP, its own host's where there are several."""
        hosts = config.settings.hosts
        return replace(self, http=hosts[config.hosts_of(startup)[0]].url.rstrip("/")) if hosts else self


def handout(
    startup: Startup, credentials: Sequence[Credential], endpoints: Endpoints, now_ns: int, api_token: str = ""
) -> str:
    """Return the page. Its example message has the time `now_ns`."""
    own = [one for one in credentials if one.startup == startup.slug]
    rules = "\n".join(f"| `{rule.template.text}` | {_fields(startup, name)} |" for name, rule in startup.topics.items())
    accounts = "\n".join(f"| {one.whose} | `{one.name}` | `{one.secret}` |" for one in own)
    token = f"| HTTP API token | | `{api_token}` |\n" if api_token else ""
    until = f" It ends on {startup.until}." if startup.until else ""
    cohort = f" You are part of {startup.cohort}." if startup.cohort else ""
    return f"""# {startup.name} on the test bed

Keep this page safe: its secrets are shown once and stored nowhere.{cohort}{until}

## Addresses

| what | address |
|---|---|
| MQTT broker | `{endpoints.mqtt}` |
| Web page and HTTP API | <{endpoints.http}> |
| Grafana | {f"<{endpoints.grafana}>" if endpoints.grafana else "not set up"} |

## Your accounts

| for | name | secret |
|---|---|---|
{token}{accounts or "| | | no new account |"}

A device signs in with its own account and publishes below `testbed/{startup.slug}/DEVICE/`. The gateway
reports what it rejects on `feedback/{startup.slug}/DEVICE`: where, what was expected and what it received.
The account `{startup.slug}` reads `feeds/{startup.slug}/#` and `feedback/{startup.slug}/#`.

## What the gateway accepts

| topic | fields |
|---|---|
{rules}
{_first_message(startup, endpoints, now_ns)}"""


def _fields(startup: Startup, name: str) -> str:
    rule = startup.topics[name]
    return ", ".join(
        f"`{rule.pointer(field)}` {one.type}{f' ({one.unit})' if one.unit else ''}"
        for field, one in rule.fields.items()
    )


def _first_message(startup: Startup, endpoints: Endpoints, now_ns: int) -> str:
    """Show how to publish a message that is accepted today, under the first rule that accepts any."""
    shown = next(filter(None, (example(rule, now_ns) for rule in startup.topics.values())), None)
    if shown is None:
        return ""
    return f"""
## First message

```
mosquitto_pub {_address(endpoints.mqtt)} -u {startup.slug}.DEVICE -P SECRET -q 1 \\
  -t {quote(shown.topic)} -m {quote(shown.payload)}
```

Then look at <{endpoints.http}> with your API token, or:

```
curl -H "Authorization: Bearer TOKEN" {endpoints.http}/v1/startups/{startup.slug}/latest
```
"""


def _address(url: str) -> str:
    """Return the options of mosquitto_pub for an MQTT URL."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = parts.port or (8883 if parts.scheme == "mqtts" else None)
    return f"-h {parts.hostname or 'HOST'}" + (f" -p {port}" if port else "")
