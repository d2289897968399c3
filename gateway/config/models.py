"""Models of gateway.yaml and startups/*.yaml, with every default of the product.

Once read, durations are seconds, sizes are bytes, and rates are messages per second.
"""

from __future__ import annotations

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from gateway.config.notations import (
    DeviceName,
    Duration,
    Name,
    NetworkField,
    PathField,
    PayloadFormat,
    Pointer,
    PointerField,
    Rate,
    Size,
    Slug,
    Slugs,
    TemplateField,
    between,
    expected,
    matching,
)
from gateway.payloads import FORMATS, Context, Format, Member
from gateway.topics import Template


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ------------------------------------------------------------------ startups/*.yaml


MIN_RETENTION = 3600.0
BYTES_A_MESSAGE = 4096
REJECTIONS = "gateway_rejections"
"""Measurement in which the gateway counts a startup's rejections, for Grafana."""


class FieldRule(_Model):
    """A field of a reading: its place in the payload, type, unit and range."""

    from_: Annotated[PointerField | None, Field(alias="from")] = None
    type: Literal["float", "int", "bool", "string"]
    unit: str = ""
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    required: bool = True

    @model_validator(mode="after")
    def _range_makes_sense(self) -> FieldRule:
        if self.type in ("bool", "string") and (self.min is not None or self.max is not None):
            raise expected("min and max only where type is float or int", f"type: {self.type}", ["type"])
        if self.min is not None and self.max is not None and self.min > self.max:
            raise expected("a min that is not above max", f"min: {self.min:g}, max: {self.max:g}", ["min"])
        return self


class TimeRule(_Model):
    """Time of a reading: its place in the payload, its unit, and how far from now it may be."""

    from_: Annotated[PointerField, Field(alias="from")]
    unit: Literal["s", "ms", "us", "ns", "rfc3339"]
    max_future: Duration = 300.0
    max_age: Duration = 30 * 86_400.0


class TopicRule(_Model):
    """A topic rule: what an operator writes for one measurement, whose name is its key."""

    topic: TemplateField
    payload: PayloadFormat = "json"
    time: TimeRule | None = None
    fields: Annotated[dict[Name, FieldRule], Field(min_length=1)]
    tags: dict[Name, PointerField] = {}
    unknown: Literal["reject", "drop", "keep"] = "reject"
    silent_after: Duration = 900.0

    @model_validator(mode="after")
    def _names_are_distinct(self) -> TopicRule:
        captured = [name for name in self.template.captures if name != "device"]
        names = ["time", "device", *captured, *self.tags, *self.fields]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            taken = "; `time` and `device` are taken"
            raise expected(f"a different name for each field and tag{taken}", f"{doubled!r} twice", ["fields"])
        return self

    @model_validator(mode="after")
    def _fits_its_format(self) -> TopicRule:
        if misfit := self.format.misfit(self.context):
            raise expected(misfit.expected, misfit.got, misfit.setting)
        return self

    @property
    def template(self) -> Template:
        return self.topic

    @property
    def format(self) -> Format:
        return FORMATS[self.payload]

    @property
    def context(self) -> Context:
        """Members that the rule picks, for the payload format."""
        members = [
            Member(("fields", name, *(["from"] if field.from_ else [])), self.pointer(name).tokens, field.type)
            for name, field in self.fields.items()
        ]
        members += [Member(("tags", name), pointer.tokens, "tag") for name, pointer in self.tags.items()]
        if self.time:
            members.append(Member(("time", "from"), self.time.from_.tokens, "time"))
        return Context(tuple(members))

    def pointer(self, field: str) -> Pointer:
        """Return the place of a field: its `from`, or the member of its own name."""
        return self.fields[field].from_ or Pointer((field,))


class Quota(_Model):
    """Quota of a startup, so that it cannot crowd out another."""

    messages: Rate = 200.0
    burst: Annotated[int, Field(ge=1)] = 2000
    bytes: Size | None = None
    per_device: Rate | None = None
    devices: Annotated[int, Field(ge=1)] = 500
    series: Annotated[int, Field(ge=1)] = 5000
    payload: Size = 64 * 1024

    @property
    def bytes_a_second(self) -> float:
        """Bytes of topics and payloads a second; by default `BYTES_A_MESSAGE` for each of `messages`."""
        return self.messages * BYTES_A_MESSAGE if self.bytes is None else self.bytes

    @property
    def burst_bytes(self) -> int:
        """Bytes at once: as many seconds' worth as `burst` is of `messages`, and at least the largest payload."""
        return max(int(self.bytes_a_second * self.burst / self.messages), self.payload)

    def divided(self, parts: int) -> Quota:
        """Return the quota of one of several hosts, which a broker gives about equal parts of the messages."""
        if parts == 1:
            return self
        part = {"messages": self.messages / parts, "burst": max(1, self.burst // parts)}
        return self.model_copy(update=part | ({} if self.bytes is None else {"bytes": max(1, self.bytes // parts)}))


class StartupFile(_Model):
    """Contents of startups/SLUG.yaml: a startup of the test bed."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    cohort: str = ""
    until: date | None = None
    retention: Duration = 90 * 86_400.0
    store: Slug | None = None
    host: Slugs = ()
    token_file: PathField | None = None
    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    team: tuple[Annotated[str, matching(r"[^@\s]+@[^@\s]+", "an e-mail address")], ...] = ()
    devices: tuple[DeviceName, ...] = ()
    blocked: tuple[DeviceName, ...] = ()
    quota: Quota = Quota()
    topics: Annotated[dict[Name, TopicRule], Field(min_length=1)]

    @model_validator(mode="after")
    def _leaves_the_gateways_own(self) -> StartupFile:
        if REJECTIONS in self.topics:
            raise expected(
                "another name: the gateway counts rejections in this measurement",
                repr(REJECTIONS),
                ["topics", REJECTIONS],
            )
        return self

    @model_validator(mode="after")
    def _kept_long_enough(self) -> StartupFile:
        if self.retention < MIN_RETENTION:
            raise expected("a retention of at least 1h, the minimum of InfluxDB", f"{self.retention:g}s", ["retention"])
        for name, rule in self.topics.items():
            if rule.time and rule.time.max_age > self.retention:
                days = f"{rule.time.max_age / 86_400:g} days; retention: {self.retention / 86_400:g} days"
                raise expected(
                    "a max_age of at most the retention: the store drops older readings",
                    days,
                    ["topics", name, "time", "max_age"],
                )
        return self


class Startup(StartupFile):
    """A startup as the gateway uses it: its file, and the slug from the file's name."""

    slug: Slug

    @property
    def ends_ns(self) -> int | None:
        """End of its programme: the midnight (UTC) after `until`, in ns since 1970."""
        if self.until is None:
            return None
        days = self.until.toordinal() + 1 - date(1970, 1, 1).toordinal()
        return days * 86_400_000_000_000

    def has_ended(self, now_ns: int) -> bool:
        return self.ends_ns is not None and now_ns >= self.ends_ns


# ------------------------------------------------------------------ gateway.yaml


class Mqtt(_Model):
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


class InfluxDB(_Model):
    """InfluxDB 2, with a bucket for each startup. `{startup}` in the bucket's name is replaced by its slug."""

    url: Annotated[str, matching(r"https?://\S+", "a URL such as http://localhost:8086")] = "http://localhost:8086"
    org: str = "testbed"
    bucket: Annotated[
        str, matching(r".*\{startup\}.*", "a name with {startup} in it, so that each startup has its own bucket")
    ] = "{startup}"
    token_file: PathField | None = None
    timeout: Duration = 20.0


class StoreSettings(_Model):
    """A store: where readings are kept."""

    kind: Literal["sqlite", "influxdb"] = "sqlite"
    influxdb: InfluxDB = InfluxDB()


class JournalSettings(_Model):
    """Limits of the queue on disk; when it is full, the broker holds the rest."""

    max_size: Size = 2 << 30
    max_readings: Annotated[int, Field(ge=1)] = 20_000_000


class DrainSettings(_Model):
    """Drain, which takes readings from the journal to the store."""

    batch: Annotated[int, Field(ge=1, le=50_000)] = 5000
    interval: Duration = 0.2
    max_backoff: Duration = 30.0
    stop_within: Duration = 10.0


class DeadLetterSettings(_Model):
    """Limits of the rejected messages kept for each startup; the oldest are dropped first."""

    max_count: Annotated[int, Field(ge=1)] = 10_000
    max_size: Size = 64 << 20


class Http(_Model):
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


class Feeds(_Model):
    """Live feeds. `kept` events of each startup are there for listeners that come back or fall behind."""

    mqtt: bool = True
    kept: Annotated[int, Field(ge=10, le=1_000_000)] = 2000


class Log(_Model):
    """Structured logs on standard error. `auto`: coloured lines on a terminal, JSON elsewhere."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Host(_Model):
    """A host that runs a gateway. `url` is where people and programs reach it."""

    url: Annotated[str, matching(r"https?://[^\s?#]+", "a URL such as https://north.testbed.example")]


class Settings(_Model):
    """Contents of gateway.yaml. Everything has a default; an empty file is complete."""

    state_dir: Annotated[PathField, Field(validate_default=True)] = Path("../var")
    mqtt: Mqtt = Mqtt()
    store: StoreSettings = StoreSettings()
    stores: dict[Slug, StoreSettings] = {}
    hosts: dict[Slug, Host] = {}
    journal: JournalSettings = JournalSettings()
    drain: DrainSettings = DrainSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    http: Http = Http()
    feeds: Feeds = Feeds()
    log: Log = Log()

    def store_named(self, name: str | None) -> StoreSettings:
        """Return the settings of a store; None is the default store."""
        return self.store if name is None else self.stores[name]


class Config(_Model):
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
