"""Loading a configuration: every problem at once, each with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Settings, load
from gateway.config.load import read_file
from gateway.errors import ConfigInvalid, Problem
from tests.builders import STARTUP, write_config

TWO = STARTUP + "  extra:\n    topic: TOPIC\n    fields: {value: {type: int}}\n"


def problems(directory: Path) -> list[Problem]:
    with pytest.raises(ConfigInvalid) as caught:
        load(directory)
    return list(caught.value.problems)


def reported(directory: Path) -> list[tuple[str, int, str]]:
    """File, line and setting of each problem."""
    return [(Path(problem.file).name, problem.line, problem.where) for problem in problems(directory)]


def one(directory: Path) -> Problem:
    (problem,) = problems(directory)
    return problem


def test_every_error_is_reported_at_once(tmp_path: Path) -> None:
    """All problems of all files come together, in reading order, each with file, line and setting."""
    write_config(
        tmp_path,
        "mqtt:\n  url: http://broker\n  in_flight: 0\nlog: {level: loud}\nfeeds:\n  mqtt: perhaps\n",
        acme="name: A\nretention: long\nquota:\n  messages: 0/s\n  payload: 64\ntopics: {}\n",
        beta="name: B\ntopics:\n  x:\n    topic: no/device/here\n    fields: {v: {type: double}}\n",
        gamma="name: [\n",
    )
    assert reported(tmp_path) == [
        ("gateway.yaml", 2, "mqtt.url"),
        ("gateway.yaml", 3, "mqtt.in_flight"),
        ("gateway.yaml", 4, "log.level"),
        ("gateway.yaml", 6, "feeds.mqtt"),
        ("acme.yaml", 2, "retention"),
        ("acme.yaml", 4, "quota.messages"),
        ("acme.yaml", 5, "quota.payload"),
        ("acme.yaml", 6, "topics"),
        ("beta.yaml", 4, "topics.x.topic"),
        ("beta.yaml", 5, "topics.x.fields.v.type"),
        ("gamma.yaml", 2, ""),
    ]


def test_error_reads_as_lines(tmp_path: Path) -> None:
    """The text of the error is one line a problem: file:line: setting: expected ...; got ..."""
    write_config(tmp_path, "log: {level: loud}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path)
    file = tmp_path / "gateway.yaml"
    assert str(caught.value) == (
        f"1 problem in the configuration\n{file}:1: log.level: "
        "expected 'debug', 'info', 'warning' or 'error'; got 'loud'"
    )


@pytest.mark.parametrize(
    ("text", "line", "expected", "got"),
    [
        ("a: 1\nb: [\n", 3, "valid YAML", "expected the node content"),
        ("log: {}\nmqtt: {}\nlog: {}\n", 3, "valid YAML", 'duplicate key "log"'),
        ("log:\n\tlevel: info\n", 2, "valid YAML", "\\t"),
        ("log: {}\n---\nlog: {}\n", 2, "valid YAML", "document"),
        ("- log\n", 1, "a mapping", "a list"),
        ("log\n", 1, "a mapping", "a single value"),
        ("log: \x00\n", 0, "YAML in UTF-8", "#x0000"),
        ("log: !!int seven\n", 0, "YAML in UTF-8", "seven"),
        ("log: " + "[" * 5000, 1, "valid YAML", "levels of brackets"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, line: int, expected: str, got: str) -> None:
    """A file that is no YAML, has a key twice or is no mapping is one problem, on its line."""
    problem = one(write_config(tmp_path, text))
    assert problem.line == line
    assert expected in problem.expected
    assert got in problem.got


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is not UTF-8 and a directory in a file's place are problems, not tracebacks."""
    write_config(tmp_path)
    (tmp_path / "gateway.yaml").mkdir()
    (tmp_path / "startups/acme.yaml").write_bytes(b"name: \xff\n")
    directory, encoding = problems(tmp_path)
    assert directory.expected == "a readable file"
    assert encoding.expected == "YAML in UTF-8"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("retenton: 5d", " (did you mean 'retention'?)"),
        ("Name: A", " (did you mean 'name'?)"),
        ("slug: acme", ""),
        ("payload: json", ""),
        ("zebra: 1", ""),
    ],
)
def test_unknown_setting(tmp_path: Path, wrong: str, hint: str) -> None:
    """A misspelt setting is reported with the one that was probably meant, never with itself."""
    problem = one(write_config(tmp_path, acme=f"{wrong}\n{STARTUP}"))
    assert (problem.line, problem.expected) == (1, f"a known setting{hint}")
    assert problem.got == repr(wrong.partition(":")[0])


def test_missing_settings(tmp_path: Path) -> None:
    """An empty startup file lacks its name and its topics; an empty gateway.yaml lacks nothing."""
    found = problems(write_config(tmp_path, "", acme=""))
    assert [(problem.where, problem.got) for problem in found] == [("name", "nothing"), ("topics", "nothing")]


def test_no_directory(tmp_path: Path) -> None:
    """Where there is no directory, that is the one problem."""
    assert one(tmp_path / "nowhere").expected == "a directory with gateway.yaml and startups/"


def test_no_startup(tmp_path: Path) -> None:
    """A directory without a startup is reported: it must have at least one."""
    assert one(tmp_path).expected == "at least one startup, SLUG.yaml"


@pytest.mark.parametrize("name", ["Acme.yaml", "1st.yaml", "a.yaml", "acme_air.yaml", "acme.yml", f"a{'b' * 31}.yaml"])
def test_wrong_file_name(tmp_path: Path, name: str) -> None:
    """A startup's file whose name is no slug, or that ends in .yml, is a problem: it is not passed over."""
    write_config(tmp_path)
    (tmp_path / "startups" / name).write_text(STARTUP.replace("/acme/", "/other/"))
    problem = one(tmp_path)
    assert "SLUG.yaml" in problem.expected
    assert problem.got == repr(name)


def test_ended_programme_is_a_warning(tmp_path: Path) -> None:
    """A startup whose programme has ended still loads, with a warning; one without an end has none."""
    loaded = load(write_config(tmp_path, acme=f"until: 2020-01-31\n{STARTUP}", beta=STARTUP.replace("acme", "beta")))
    assert loaded.warnings == ("acme: its programme ended on 2020-01-31; its messages are rejected",)


def test_a_startup_names_its_store(tmp_path: Path) -> None:
    """A startup's file may name a store of gateway.yaml; without a name its store is the default one."""
    gateway = "stores:\n  east: {kind: influxdb, influxdb: {url: 'http://east:8086'}}\n"
    birch = "store: east\n" + STARTUP.replace("acme", "birch")
    loaded = load(write_config(tmp_path, gateway, acme=STARTUP, birch=birch))
    stores = [loaded.settings.store_named(startup.store) for startup in loaded.startups]
    assert [(store.kind, store.influxdb.url) for store in stores] == [
        ("sqlite", "http://localhost:8086"),
        ("influxdb", "http://east:8086"),
    ]


@pytest.mark.parametrize(("stores", "known"), [("{east: {}, west: {}}", "east, west"), ("{}", "none yet")])
def test_an_unknown_store_is_an_error(tmp_path: Path, stores: str, known: str) -> None:
    """A name that gateway.yaml does not have is reported on its line, with the names that exist."""
    problem = one(write_config(tmp_path, f"stores: {stores}\n", acme=f"cohort: spring\nstore: eest\n{STARTUP}"))
    assert (Path(problem.file).name, problem.line, problem.where) == ("acme.yaml", 2, "store")
    assert problem.expected == f"a name under stores in gateway.yaml ({known})"
    assert problem.got == "'eest'"


def test_stores_are_not_looked_at_where_gateway_yaml_is_wrong(tmp_path: Path) -> None:
    """The stores of an invalid gateway.yaml are unknown, so that only its own errors are reported."""
    write_config(tmp_path, "stores:\n  East: {}\n  west: {kind: influx}\n", acme=f"store: west\n{STARTUP}")
    assert reported(tmp_path) == [("gateway.yaml", 2, "stores.East"), ("gateway.yaml", 3, "stores.west.kind")]


def test_overlap_of_two_startups(tmp_path: Path) -> None:
    """Two startups that both claim a topic are rejected, with file and line of each."""
    other = STARTUP.replace("testbed/acme/{device}/climate", "lora/{site}/{device}/up")
    write_config(tmp_path, acme=other, beta="# Beta\n" + other.replace("{site}", "berlin"))
    problem = one(tmp_path)
    acme = tmp_path / "startups/acme.yaml"
    beta = tmp_path / "startups/beta.yaml"
    assert {f"{problem.file}:{problem.line}", *problem.expected.split()} >= {f"{acme}:4", f"{beta}:5"}
    assert "lora/{site}/{device}/up" in problem.expected + problem.got
    assert "lora/berlin/{device}/up" in problem.expected + problem.got


def test_overlap_beside_other_errors(tmp_path: Path) -> None:
    """What else is wrong in a file does not hide that it claims another's topic."""
    other = STARTUP.replace("testbed/acme/{device}/climate", "lora/{device}/up")
    write_config(tmp_path, acme=f"retention: forever\n{other}", beta=other)
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path)
    wrong, overlap = caught.value.problems
    assert (wrong.line, wrong.where) == (1, "retention")
    assert "acme.yaml:5 has 'lora/{device}/up', which overlaps" in overlap.expected


def test_overlap_within_a_startup(tmp_path: Path) -> None:
    """Two rules of one startup that match the same topic are rejected as well."""
    problem = one(write_config(tmp_path, acme=TWO.replace("TOPIC", "testbed/acme/{device}/{kind}")))
    assert (problem.line, problem.where) == (8, "topics.extra.topic")
    assert "acme.yaml:4 has 'testbed/acme/{device}/climate', which overlaps" in problem.expected


def test_overlap_of_captures_in_front(tmp_path: Path) -> None:
    """Captures that come early, under different names, overlap as well."""
    topics = ["lora/{site}/{device}/up", "lora/{device}/1/{kind}"]
    acme, beta = (STARTUP.replace("testbed/acme/{device}/climate", topic) for topic in topics)
    problem = one(write_config(tmp_path, acme=acme, beta=beta))
    assert all(topic in problem.expected + problem.got for topic in topics)


@pytest.mark.parametrize(
    "topic",
    ["testbed/acme/{device}", "testbed/acme/{device}/climate/{more}", "testbed/acme/{device}/power", "lora/{device}"],
)
def test_no_overlap(tmp_path: Path, topic: str) -> None:
    """Topics of different lengths, or that differ in a level without captures, do not overlap."""
    assert len(load(write_config(tmp_path, acme=TWO.replace("TOPIC", topic))).startups[0].topics) == 2


@pytest.mark.parametrize(("slug", "owner"), [("beta", "acme"), ("beta", "{site}"), ("acme-2", "acme")])
def test_topic_of_another_startup(tmp_path: Path, slug: str, owner: str) -> None:
    """Under testbed/ a startup may have topics below its own slug only."""
    text = STARTUP.replace("acme", owner).replace("climate\n", "gas\n")
    problem = one(write_config(tmp_path, acme=STARTUP, **{slug.replace("-", "_"): text}))
    assert problem.expected == f"its own topics under testbed/{slug}/"
    assert (Path(problem.file).stem, problem.line) == (slug, 4)


def test_merged_keys(tmp_path: Path) -> None:
    """A problem in a value that was merged in (`<<`) is reported on the line of the mapping that includes it."""
    text = """\
name: A
topics:
  climate:
    topic: testbed/acme/{device}/climate
    fields:
      a: &field {type: float, mn: 1}
      b:
        <<: *field
        unit: celsius
"""
    assert reported(write_config(tmp_path, acme=text)) == [
        ("acme.yaml", 6, "topics.climate.fields.a.mn"),
        ("acme.yaml", 7, "topics.climate.fields.b.mn"),
    ]


def test_entries_of_lists(tmp_path: Path) -> None:
    """A problem in a list is reported on the line of its entry."""
    text = "devices:\n  - th-1\n  - th 2\n  - th-3\n  - ''\n" + STARTUP
    assert reported(write_config(tmp_path, acme=text)) == [("acme.yaml", 3, "devices.1"), ("acme.yaml", 5, "devices.3")]


def test_one_file_by_itself(tmp_path: Path) -> None:
    """One file can be read by itself: defaults where it is not there, every problem where it is wrong."""
    assert read_file(tmp_path, "gateway.yaml", Settings).log.level == "info"
    write_config(tmp_path, "log: {level: debug}\n")
    assert read_file(tmp_path, "gateway.yaml", Settings).log.level == "debug"
    write_config(tmp_path, "log: {level: loud, format: loud}\n")
    with pytest.raises(ConfigInvalid) as caught:
        read_file(tmp_path, "gateway.yaml", Settings)
    assert [problem.where for problem in caught.value.problems] == ["log.format", "log.level"]


def test_anchors_and_typed_scalars(tmp_path: Path) -> None:
    """YAML's own notations (anchors, quotes, folded text, octal and exponent numbers) arrive as plain values."""
    text = STARTUP.replace("name: Acme Air", 'name: >-\n  Acme\n  Air\ncohort: &c "spring"') + (
        "      humidity: &h {type: float, min: 1e1, max: 0o144, required: off}\n      dew: *h\nquota: {burst: 1_000}\n"
    ).replace("off", "false")
    (acme,) = load(write_config(tmp_path, acme=text)).startups
    rule = acme.topics["climate"].fields["dew"]
    assert (acme.name, acme.cohort, acme.quota.burst) == ("Acme Air", "spring", 1000)
    assert (rule.min, rule.max, rule.required) == (10, 100, False)
