"""Models of gateway.yaml, with their defaults, and the whole configuration.

Once read, durations are seconds and sizes are bytes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.notations import (
    Duration,
    NetworkField,
    PathField,
    Size,
    Slug,
    between,
    matching,
)
from gateway.config.startup_file import Model, Quota, Startup


class Mqtt(Model):
    """Broker, and the gateway's session with it."""

    url: Annotated[
        str, matching(r"mqtts?://[^\s/@:]+(:(?P<port>\d{1,5}))?/?", "a URL such as mqtt://host:1883 or mqtts://host")
    ] = "mqtt://localhost:1883"
    protocol: Literal["auto", "3.1.1", "5"] = "auto"
    sessions: Literal["startup", "one"] = "startup"
    client_id: Annotated[str, Field(min_length=1, max_length=200)] = "testbed-gateway"
    username: str | None = None
    password_file: PathField | None = None
    ca_file: PathField | None = None
    cert_file: PathField | None = None
    key_file: PathField | None = None
    keep_alive: Annotated[Duration, between(1, 65_535)] = 30.0
    session_expiry: Duration = 7 * 86_400.0
    in_flight: Annotated[int, Field(ge=1, le=65_535)] = 2000


class InfluxDB(Model):
    """InfluxDB 2, with a bucket for each startup. `{startup}` in the bucket's name is replaced by its slug."""

    url: Annotated[str, matching(r"https?://\S+", "a URL such as http://localhost:8086")] = "http://localhost:8086"
    org: str = "testbed"
    bucket: Annotated[
        str, matching(r".*\{startup\}.*", "a name with {startup} in it, so that each startup has its own bucket")
    ] = "{startup}"
    token_file: PathField | None = None
    timeout: Duration = 20.0


class StoreSettings(Model):
    """A store: where readings are kept."""

    kind: Literal["sqlite", "influxdb"] = "sqlite"
    influxdb: InfluxDB = InfluxDB()


class JournalSettings(Model):
    """Limits of the queue on disk; when it is full, the broker holds the rest."""

    max_size: Size = 2 << 30
    max_readings: Annotated[int, Field(ge=1)] = 20_000_000


class DrainSettings(Model):
    """Drain, which takes readings from the journal to the store."""

    batch: Annotated[int, Field(ge=1, le=50_000)] = 5000
    interval: Duration = 0.2
    max_backoff: Duration = 30.0
    stop_within: Duration = 10.0


class DeadLetterSettings(Model):
    """Limits of the rejected messages kept for each startup; the oldest are dropped first."""

    max_count: Annotated[int, Field(ge=1)] = 10_000
    max_size: Size = 64 << 20


class Http(Model):
    """HTTP API and the web page."""

    listen: Annotated[
        str, matching(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})", "an address and port such as 127.0.0.1:8080")
    ] = "127.0.0.1:8080"
    operator_token_file: PathField | None = None
    console: bool = True
    cert_file: PathField | None = None
    key_file: PathField | None = None
    trusted_proxies: tuple[NetworkField, ...] = ()

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


class Feeds(Model):
    """Live feeds. `kept` events of each startup are there for listeners that come back or fall behind."""

    mqtt: bool = True
    kept: Annotated[int, Field(ge=10, le=1_000_000)] = 2000


class Log(Model):
    """Structured logs on standard error. `auto`: coloured lines on a terminal, JSON elsewhere."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Host(Model):
    """A host that runs a gateway. `url` is where people and programs reach it."""

    url: Annotated[str, matching(r"https?://[^\s?#]+", "a URL such as https://north.testbed.example")]


class Settings(Model):
    """Contents of gateway.yaml. Everything has a default; an empty file is complete."""

    state_dir: Annotated[PathField, Field(validate_default=True)] = Path("../var")
    mqtt: Mqtt = Mqtt()
    store: StoreSettings = StoreSettings()
    stores: dict[Slug, StoreSettings] = {}  # noqa: RUF012  # pydantic copies it
    hosts: dict[Slug, Host] = {}  # noqa: RUF012  # pydantic copies it
    journal: JournalSettings = JournalSettings()
    drain: DrainSettings = DrainSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    http: Http = Http()
    feeds: Feeds = Feeds()
    log: Log = Log()

    def store_named(self, name: str | None) -> StoreSettings:
        """Return the settings of a store; None is the default store."""
        return self.store if name is None else self.stores[name]


class Config(Model):
    """Whole configuration, immutable. `ended` are the startups that `active` removed from `startups`. `host` is the
    one of `settings.hosts` that this process runs on; None: there are none."""

    settings: Settings
    startups: tuple[Startup, ...]
    ended: tuple[Startup, ...] = ()
    warnings: tuple[str, ...] = ()
    host: str | None = None

    @cached_property
    def by_slug(self) -> dict[str, Startup]:
        return {startup.slug: startup for startup in self.startups}

    def active(self, now_ns: int) -> Config:
        """Return the same configuration without the startups whose programme has ended."""
        left = tuple(startup for startup in self.startups if not startup.has_ended(now_ns))
        ended = tuple(startup for startup in self.startups if startup.has_ended(now_ns))
        return Config(settings=self.settings, startups=left, ended=ended, warnings=self.warnings, host=self.host)

    def hosts_of(self, startup: Startup) -> tuple[str, ...]:
        """Return the hosts that serve a startup: those that its file names, else the first of all; none where all is on
        one host."""
        return startup.host or tuple(self.settings.hosts)[:1]

    def serves(self, startup: Startup) -> bool:
        """Return whether this host serves a startup."""
        return self.host is None or self.host in self.hosts_of(startup)

    def quota_of(self, startup: Startup) -> Quota:
        """Return a startup's quota on this host: its part, where several share the messages."""
        return startup.quota if self.host is None else startup.quota.divided(len(self.hosts_of(startup)))

    @property
    def served(self) -> tuple[Startup, ...]:
        """Startups that this host serves."""
        return tuple(startup for startup in self.startups if self.serves(startup))

    @property
    def state_dir(self) -> Path:
        return self.settings.state_dir
