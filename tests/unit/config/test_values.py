"""The notations of settings: what is taken, what is rejected, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from gateway.config import Pointer, load
from gateway.config.notations import parse_duration, parse_pointer, parse_rate, parse_size, parse_template
from gateway.errors import ConfigInvalid, Problem
from gateway.topics import Template
from tests.builders import STARTUP, write_config

FIELD = "      temperature: {type: float}\n"


def one(directory: Path) -> Problem:
    with pytest.raises(ConfigInvalid) as caught:
        load(directory)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("30s", 30),
        ("1.5h", 5400),
        ("5 m", 300),
        ("2w", 1_209_600),
        ("1y", 31_536_000),
        ("0s", 0),
        ("100y", 3.1536e9),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are a number and a unit from ms to years."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "wrong", ["30", 30, "", "s", "-5s", "5 min", "1e3s", "9" * 400 + "y", "101y", "36501d", None, "5s\n"]
)
def test_wrong_durations(wrong: object) -> None:
    """A number without a unit, or with another, is no duration; nor is more than a century, which 64 bits of ns
    around now do not hold."""
    with pytest.raises(PydanticCustomError, match="a duration such as"):
        parse_duration(wrong)


@pytest.mark.parametrize(
    ("text", "size"), [("500B", 500), ("64KiB", 65_536), ("1.5 KB", 1500), ("2GiB", 2 << 30), ("3MB", 3_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are a number and a unit, decimal or binary."""
    assert parse_size(text) == size


@pytest.mark.parametrize("wrong", ["64", 64, "64kb", "0B", "0.4B", "-1KiB", "9" * 400 + "B", None])
def test_wrong_sizes(wrong: object) -> None:
    """No size: without a unit, nothing at all, or beyond all measure."""
    with pytest.raises(PydanticCustomError, match="a size above 0 such as"):
        parse_size(wrong)


@pytest.mark.parametrize(("text", "rate"), [("200/s", 200), ("30/m", 0.5), ("1 / h", 1 / 3600), ("0.5/s", 0.5)])
def test_rates(text: str, rate: float) -> None:
    """Rates are a count a second, minute or hour."""
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("wrong", ["200", 200, "0/s", "0.0/m", "5/d", "-1/s", None])
def test_wrong_rates(wrong: object) -> None:
    """A rate of nothing would let nothing in."""
    with pytest.raises(PydanticCustomError, match="a rate above 0"):
        parse_rate(wrong)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("/t", ("t",)),
        ("/meter/voltage", ("meter", "voltage")),
        ("/values/0/v", ("values", 0, "v")),
        ("/0/1", ("0", 1)),
        ("/a~1b/m~0n/~01", ("a/b", "m~n", "~1")),
        ("/pm/2.5", ("pm", "2.5")),
        ("/a/007", ("a", "007")),
        ("/a/" + "9" * 20, ("a", "9" * 20)),
        ("/", ("",)),
    ],
)
def test_pointers(text: str, tokens: tuple[str | int, ...]) -> None:
    """JSON Pointers are read as RFC 6901 says, and written back the same; the first token names a member."""
    assert parse_pointer(text).tokens == tokens
    assert str(parse_pointer(text)) == text
    assert parse_pointer(Pointer(tokens)) == Pointer(tokens)


@pytest.mark.parametrize("wrong", ["", "t", "t/x", "/a~", "/a~/1b", "/a~2", 5, None])
def test_wrong_pointers(wrong: object) -> None:
    """No pointer: without a slash at its head, or with a lone ~."""
    with pytest.raises(PydanticCustomError, match="a JSON Pointer such as"):
        parse_pointer(wrong)


def test_templates() -> None:
    """A template is read once, and left as it is when it is one already."""
    template = parse_template("testbed/acme/{device}/climate")
    assert parse_template(template) is template
    with pytest.raises(PydanticCustomError, match="a topic template such as"):
        parse_template(5)


@pytest.mark.parametrize(
    ("setting", "where", "expected"),
    [
        ("mqtt: {url: localhost}", "mqtt.url", "a URL such as mqtt://host:1883"),
        ("mqtt: {url: 'mqtt://user:word@host'}", "mqtt.url", "a URL such as mqtt://host:1883"),
        ("mqtt: {url: 'mqtt://host:65536'}", "mqtt.url", "a URL such as mqtt://host:1883"),
        ("mqtt: {protocol: 4}", "mqtt.protocol", "'auto', '3.1.1' or '5'"),
        ("mqtt: {in_flight: 65536}", "mqtt.in_flight", "at most 65535"),
        ("mqtt: {keep_alive: 1d}", "mqtt.keep_alive", "from 1s to 65535s"),
        ("mqtt: {keep_alive: 10ms}", "mqtt.keep_alive", "from 1s to 65535s"),
        ("mqtt: {session_expiry: 137y}", "mqtt.session_expiry", "at most 100y"),
        ("mqtt: {client_id: ''}", "mqtt.client_id", "at least 1 character"),
        ("mqtt: {ca_file: 5}", "mqtt.ca_file", "a path"),
        ("store: {kind: mysql}", "store.kind", "'sqlite' or 'influxdb'"),
        ("store: {influxdb: {url: 'ftp://host'}}", "store.influxdb.url", "a URL such as http://"),
        ("store: {influxdb: {bucket: telemetry}}", "store.influxdb.bucket", "{startup}"),
        ("journal: {max_size: 0B}", "journal.max_size", "a size above 0"),
        ("journal: {max_readings: 1.5}", "journal.max_readings", "an integer"),
        ("drain: {batch: many}", "drain.batch", "an integer"),
        ("drain: {interval: 5}", "drain.interval", "a duration such as"),
        ("http: {listen: '8080'}", "http.listen", "an address and port"),
        ("http: {listen: '127.0.0.1:99999'}", "http.listen", "an address and port"),
        ("http: {console: maybe}", "http.console", "true or false"),
        ("feeds: {kept: 1}", "feeds.kept", "at least 10"),
        ("feeds: {kept: 99999999999999999999}", "feeds.kept", "at most 1000000"),
        ("log: 5", "log", "a mapping"),
        ("log: [1]", "log", "a mapping"),
    ],
)
def test_wrong_gateway_settings(tmp_path: Path, setting: str, where: str, expected: str) -> None:
    """Each invalid setting of gateway.yaml is reported with what was expected there."""
    problem = one(write_config(tmp_path, f"\n{setting}\n"))
    assert (problem.line, problem.where) == (2, where)
    assert expected in problem.expected


@pytest.mark.parametrize(
    ("setting", "where", "expected"),
    [
        ("name: ''", "name", "at least 1 character"),
        ("name: 5", "name", "a string"),
        (f"name: {'x' * 81}", "name", "at most 80 characters"),
        ("until: soon", "until", "a date such as 2026-12-18"),
        ("until: 2026-02-30", "until", "a date such as 2026-12-18"),
        ("until: 2026-12-18T10:00:00Z", "until", "a date such as 2026-12-18"),
        ("quota: {devices: 0}", "quota.devices", "at least 1"),
        ("quota: {messages: 5}", "quota.messages", "a rate above 0"),
        ("token_file: [a]", "token_file", "a path"),
        ("token_sha256: abc", "token_sha256", "a string that matches"),
        ("team: [ann@acme.example, bob]", "team.1", "an e-mail address"),
        ("devices: [th-1, th 2]", "devices.1", "a device name of 1 to 64 letters"),
    ],
)
def test_wrong_startup_settings(tmp_path: Path, setting: str, where: str, expected: str) -> None:
    """Each invalid setting of a startup is reported with what was expected there."""
    rest = STARTUP.removeprefix("name: Acme Air\n") if setting.startswith("name") else STARTUP
    problem = one(write_config(tmp_path, acme=f"{setting}\n{rest}"))
    assert (problem.line, problem.where) == (1, where)
    assert expected in problem.expected


def test_secrets_in_wrong_places_are_not_shown(tmp_path: Path) -> None:
    """An error shows neither a token that stands where its hash should, nor the password in a URL."""
    directory = write_config(
        tmp_path, "mqtt: {url: 'mqtt://me:hunter2@host'}\n", acme="token_sha256: hunter2\n" + STARTUP
    )
    with pytest.raises(ConfigInvalid) as raised:
        load(directory)
    assert len(raised.value.problems) == 2
    assert "hunter2" not in str(raised.value)
    assert "mqtt://…@host" in str(raised.value)


@pytest.mark.parametrize(
    ("field", "where", "expected"),
    [
        ("temperature: {type: double}", "temperature.type", "'float', 'int', 'bool' or 'string'"),
        ("temperature: {unit: celsius}", "temperature.type", "this setting, which has no default"),
        ("temperature: {type: float, from: t}", "temperature.from", "a JSON Pointer"),
        ("temperature: {type: float, min: 3, max: 2}", "temperature.min", "a min that is not above max"),
        ("temperature: {type: string, min: 3}", "temperature.type", "min and max only where type is float or int"),
        ("temperature: {type: bool, max: 1}", "temperature.type", "min and max only where type is float or int"),
        ("temperature: {type: int, min: .inf}", "temperature.min", "a finite number"),
        ("temperature: {type: float, max: .nan}", "temperature.max", "a finite number"),
        ("room temp: {type: float}", "room temp", "a string that matches"),
        ("_field: {type: float}", "_field", "a string that matches"),
    ],
)
def test_wrong_fields(tmp_path: Path, field: str, where: str, expected: str) -> None:
    """Each invalid setting of a field is reported on the field's line."""
    problem = one(write_config(tmp_path, acme=STARTUP.replace(FIELD, f"      {field}\n")))
    assert (problem.line, problem.where) == (6, f"topics.climate.fields.{where}")
    assert expected in problem.expected


@pytest.mark.parametrize(
    ("fields", "rest", "twice"),
    [
        ("time: {type: float}", "", "time"),
        ("device: {type: float}", "", "device"),
        ("room: {type: float}", "    tags: {room: /r}\n", "room"),
        ("kind: {type: float}", "", "kind"),
        ("v: {type: float}", "    tags: {kind: /k}\n", "kind"),
        ("v: {type: float}", "    tags: {device: /d}\n", "device"),
    ],
)
def test_doubled_and_reserved_names(tmp_path: Path, fields: str, rest: str, twice: str) -> None:
    """Fields, tags and captured levels share one space of names, in which `time` and `device` are taken."""
    text = STARTUP.replace(FIELD, f"      {fields}\n{rest}").replace("{device}", "{device}/{kind}")
    problem = one(write_config(tmp_path, acme=text))
    assert problem.where == "topics.climate.fields"
    assert problem.got == f"{twice!r} twice"
    assert "`time` and `device` are taken" in problem.expected


def test_max_age_beyond_retention(tmp_path: Path) -> None:
    """A rule that lets in what the store drops at once is rejected, whether max_age stands there or is the default."""
    text = "retention: 7d\n" + STARTUP + "    time: {from: /t, unit: s}\n"
    problem = one(write_config(tmp_path, acme=text))
    assert (problem.line, problem.where) == (8, "topics.climate.time.max_age")
    assert problem.got == "30 days; retention: 7 days"
    assert load(write_config(tmp_path, acme=text.replace("unit: s", "unit: s, max_age: 7d"))).startups


def test_a_retention_below_the_minimum_is_rejected(tmp_path: Path) -> None:
    """InfluxDB keeps nothing shorter than an hour: `check` reports that, not only the creation of a bucket."""
    problem = one(write_config(tmp_path, acme="retention: 59m\n" + STARTUP))
    assert (problem.line, problem.where) == (1, "retention")
    assert "at least 1h" in problem.expected
    assert load(write_config(tmp_path, acme="retention: 1h\n" + STARTUP)).startups


@pytest.mark.parametrize(("listen", "host", "port"), [("[::1]:8080", "::1", 8080), ("gate.lan:80", "gate.lan", 80)])
def test_listen(tmp_path: Path, listen: str, host: str, port: int) -> None:
    """The HTTP address is read as host and port, IPv6 in brackets."""
    http = load(write_config(tmp_path, f"http: {{listen: '{listen}'}}\n")).settings.http
    assert (http.host, http.port) == (host, port)


def test_template_in_config_is_a_template(tmp_path: Path) -> None:
    """What the operator wrote as a topic arrives parsed, and a field without `from` is the member of its name."""
    rule = load(write_config(tmp_path)).startups[0].topics["climate"]
    assert rule.template == Template.parse("testbed/acme/{device}/climate")
    assert str(rule.pointer("temperature")) == "/temperature"
