"""Models of startups/*.yaml, with their defaults.

Once read, durations are seconds, sizes are bytes, and rates are messages per second.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from gateway.config.notations import (
    DeviceName,
    Duration,
    Name,
    PathField,
    PayloadFormat,
    Pointer,
    PointerField,
    Rate,
    Size,
    Slug,
    Slugs,
    TemplateField,
    expected,
    matching,
)
from gateway.payloads import FORMATS, Context, Format, Member
from gateway.topics import Template


class Model(BaseModel):
    """Base of all models: immutable, and strict about unknown settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


MIN_RETENTION = 3600.0
BYTES_A_MESSAGE = 4096
REJECTIONS = "gateway_rejections"
"""Measurement in which the gateway counts a startup's rejections, for Grafana."""
SEQ = "seq"
"""Field of a sequence number that no field of the rule takes."""


class FieldRule(Model):
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


class TimeRule(Model):
    """Time of a reading: its place in the payload, its unit, and how far from now it may be."""

    from_: Annotated[PointerField, Field(alias="from")]
    unit: Literal["s", "ms", "us", "ns", "rfc3339"]
    max_future: Duration = 300.0
    max_age: Duration = 30 * 86_400.0


class TopicRule(Model):
    """A topic rule: what an operator writes for one measurement, whose name is its key."""

    topic: TemplateField
    payload: PayloadFormat = "json"
    time: TimeRule | None = None
    seq: PointerField | None = None
    fields: Annotated[dict[Name, FieldRule], Field(min_length=1)]
    tags: dict[Name, PointerField] = {}
    unknown: Literal["reject", "drop", "keep"] = "reject"
    silent_after: Duration = 900.0

    @model_validator(mode="before")
    @classmethod
    def _has_a_field_for_its_sequence(cls, raw: Any) -> Any:
        """Add the field `seq`, unless a field of the rule takes the sequence number already."""
        if not isinstance(raw, dict) or not isinstance(raw.get("seq"), str) or not isinstance(raw.get("fields"), dict):
            return raw
        places = [field.get("from", f"/{name}") for name, field in raw["fields"].items() if isinstance(field, dict)]
        if raw["seq"] in places or SEQ in raw["fields"]:
            return raw
        return {**raw, "fields": {**raw["fields"], SEQ: {"from": raw["seq"], "type": "int", "required": False}}}

    @model_validator(mode="after")
    def _sequence_is_an_integer(self) -> TopicRule:
        if self.seq:
            name = self.sequence_field
            if name is None:
                raise expected(
                    f"no other field of the name {SEQ!r} beside seq: {self.seq}", f"{SEQ!r}", ["fields", SEQ]
                )
            if self.fields[name].type != "int":
                got = f"field {name!r} of type {self.fields[name].type}"
                raise expected("an integer at the place of the sequence number", got, ["seq"])
        return self

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

    @property
    def sequence_field(self) -> str | None:
        """Field that holds the sequence number, if the rule has one."""
        return next((name for name in self.fields if self.pointer(name) == self.seq), None) if self.seq else None

    def pointer(self, field: str) -> Pointer:
        """Return the place of a field: its `from`, or the member of its own name."""
        return self.fields[field].from_ or Pointer((field,))


class Quota(Model):
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


class StartupFile(Model):
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
