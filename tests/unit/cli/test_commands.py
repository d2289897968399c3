"""The commands that need no running gateway: check, schema, try, version, and how errors are reported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gateway
from gateway.config import Settings, StartupFile
from tests.builders import ROOT, SAMPLES, STARTUP, write_config
from tests.unit.cli.command_line import Command

WRONG = "name: A\nretenton: 5d\ntopics:\n  x:\n    topic: testbed/acme/{device}/x\n    fields: {v: {type: double}}\n"
TOPIC = "testbed/acme/th-1/climate"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """The shipped configuration, whose programmes never end: the commands look at today's clock."""
    shutil.copytree(SAMPLES, tmp_path / "samples")
    for path in (tmp_path / "samples/startups").iterdir():
        path.write_text(re.sub(r"until: \S+", "until: 9999-12-31", path.read_text(encoding="utf-8")), encoding="utf-8")
    return tmp_path / "samples"


def test_check_good(run: Command, samples: Path) -> None:
    """A valid configuration is confirmed in one line, with exit code 0."""
    done = run("check", samples)
    assert (done.code, done.out, done.err) == (0, "✓ 3 startups, 5 topic rules: all good\n", "")


def test_check_good_json(run: Command, tmp_path: Path) -> None:
    """With --json the same is printed for programs, including warnings."""
    done = run("check", write_config(tmp_path, acme=f"until: 2020-01-01\n{STARTUP}"), "--json")
    assert done.code == 0
    assert done.json == {
        "ok": True,
        "startups": 1,
        "rules": 1,
        "warnings": ["acme: its programme ended on 2020-01-01; its messages are rejected"],
    }


def test_check_warns(run: Command, tmp_path: Path) -> None:
    """A warning is printed, and is not an error."""
    done = run("check", write_config(tmp_path, acme=f"until: 2020-01-01\n{STARTUP}"))
    assert done.code == 0
    assert "warning: acme: its programme ended on 2020-01-01" in done.out


def test_check_bad(run: Command, tmp_path: Path) -> None:
    """Every error is reported with its file, line, what was expected and what was found; the exit code is 1."""
    write_config(tmp_path, "log: {level: loud}\n", acme=WRONG)
    (tmp_path / "startups/No Slug[1].yaml").write_text(STARTUP)
    done = run("check", tmp_path)
    assert (done.code, done.out) == (1, "")
    folder = tmp_path / "startups"
    assert done.err.splitlines() == [
        f"{tmp_path}/gateway.yaml:1 log.level",
        "    expected 'debug', 'info', 'warning' or 'error'",
        "    got      'loud'",
        f"{folder}/No Slug[1].yaml",
        "    expected a file name SLUG.yaml with a slug that matches ^[a-z][a-z0-9-]{1,30}$",
        "    got      'No Slug[1].yaml'",
        f"{folder}/acme.yaml:2 retenton",
        "    expected a known setting (did you mean 'retention'?)",
        "    got      'retenton'",
        f"{folder}/acme.yaml:6 topics.x.fields.v.type",
        "    expected 'float', 'int', 'bool' or 'string'",
        "    got      'double'",
        "4 problems",
    ]


def test_check_bad_json(run: Command, tmp_path: Path) -> None:
    """With --json each error is an object."""
    done = run("check", write_config(tmp_path, "log: {level: loud}\n", acme=WRONG), "--json")
    assert (done.code, done.err) == (1, "")
    assert done.json["ok"] is False
    assert [(problem["line"], problem["where"]) for problem in done.json["problems"]] == [
        (1, "log.level"),
        (2, "retenton"),
        (6, "topics.x.fields.v.type"),
    ]
    assert set(done.json["problems"][0]) == {"file", "line", "where", "expected", "got"}


def test_check_missing_directory(run: Command, tmp_path: Path) -> None:
    """A missing directory is reported without a traceback."""
    done = run("check", tmp_path / "nowhere")
    assert done.code == 1
    assert "expected a directory with gateway.yaml and startups/" in done.err


@pytest.mark.parametrize(("of", "model"), [("startup", StartupFile), ("gateway", Settings)])
def test_schema(run: Command, of: str, model: type[StartupFile] | type[Settings]) -> None:
    """The JSON Schema of each kind of file is printed, with every setting by the name it has in YAML."""
    done = run("schema", of)
    assert done.code == 0
    assert done.json["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(done.json["properties"]) == set(model.model_fields)
    assert done.json["additionalProperties"] is False
    if of == "startup":
        assert set(done.json["$defs"]["FieldRule"]["properties"]) == {"from", "type", "unit", "min", "max", "required"}


def good() -> str:
    return json.dumps({"ts": time.time_ns() // 1_000_000, "t": 21.5, "humidity": 40, "fw": "1.2"})


def test_try_accepted(run: Command, samples: Path) -> None:
    """A good message is shown as its reading and its line; exit code 0."""
    done = run("try", TOPIC, good(), "-c", samples)
    assert (done.code, done.err) == (0, "")
    for text in ("accepted", "startup      acme", "th-1", "temperature = 21.5", "firmware = '1.2'"):
        assert text in done.out
    assert "climate,device=th-1,firmware=1.2 temperature=21.5,humidity=40.0 " in done.out


def test_try_accepted_json(run: Command, samples: Path) -> None:
    """With --json the reading comes whole."""
    done = run("try", TOPIC, good(), "-c", samples, "--json")
    assert done.code == 0
    assert (done.json["accepted"], done.json["reasons"]) == (True, [])
    (reading,) = done.json["readings"]
    assert (reading["startup"], reading["device"], reading["measurement"]) == ("acme", "th-1", "climate")
    assert reading["tags"] == {"firmware": "1.2"}
    assert reading["fields"] == {"temperature": 21.5, "humidity": 40.0}
    assert reading["line"].startswith("climate,device=th-1,firmware=1.2 temperature=21.5")


def test_try_rejected(run: Command, samples: Path) -> None:
    """A bad message is shown with every reason; exit code 1."""
    done = run("try", "testbed/acme/th 1/climate", '{"t": "hot", "x[1]": 1}', "-c", samples)
    assert done.code == 1
    assert "rejected" in done.out
    for code, where in {"bad_device": "topic", "wrong_type": "/t", "missing": "/ts", "unknown_field": "/x[1]"}.items():
        assert any(code in line and f" {where}: expected " in line for line in done.out.splitlines())


def test_try_array(run: Command, samples: Path) -> None:
    """Of an array the good records are shown as readings, and the bad ones with their reasons; exit code 1."""
    now = time.time()
    records = [{"at": now, "moisture": m, "ph": 6.5, "ec": 1, "bed": "b"} for m in (30, 101)]
    done = run("try", "testbed/greenbed/p-1/soil", json.dumps(records), "-c", samples, "--json")
    assert done.code == 1
    assert len(done.json["readings"]) == 1
    assert [(reason["code"], reason["where"]) for reason in done.json["reasons"]] == [("out_of_range", "/1/moisture")]


def test_try_topic_of_no_startup(run: Command, samples: Path) -> None:
    """A topic of no startup is reported as such."""
    done = run("try", "nowhere", "{}", "-c", samples, "--json")
    assert (done.code, done.json["reasons"][0]["code"]) == (1, "no_rule")


def test_try_payload_from_elsewhere(run: Command, samples: Path, tmp_path: Path) -> None:
    """A payload comes from the command line, from a file, or from standard input, byte for byte."""
    (tmp_path / "payload").write_bytes(b'{"t": "\xff"}')
    file = run("try", TOPIC, f"@{tmp_path}/payload", "-c", samples, "--json")
    piped = run("try", TOPIC, "-", "-c", samples, "--json", stdin=b'{"t": "\xff"}')
    given = run("try", TOPIC, os.fsdecode(b'{"t": "\xff"}'), "-c", samples, "--json")
    assert file.json == piped.json == given.json
    assert file.json["reasons"][0]["code"] == "not_json"
    assert "\\xff" in file.json["reasons"][0]["got"]
    assert run("try", TOPIC, "-", "-c", samples, stdin=good().encode()).code == 0


def test_try_missing_file(run: Command, samples: Path, tmp_path: Path) -> None:
    """A missing payload file is an invalid argument, reported without a traceback."""
    done = run("try", TOPIC, f"@{tmp_path}/nothing", "-c", samples)
    assert done.code == 2
    assert "No such file" in done.err
    assert "Traceback" not in done.err


def test_try_uses_the_configuration_of_the_environment(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """GATEWAY_CONFIG names the directory, if --config does not."""
    monkeypatch.setenv("GATEWAY_CONFIG", str(write_config(tmp_path)))
    assert run("try", TOPIC, '{"temperature": 1}').code == 0


def test_version_and_help(run: Command) -> None:
    """The version is printed; without a command, all commands are."""
    assert run("version").out == f"{gateway.__version__}\n"
    shown = run("--help").out
    for command in ("run", "demo", "check", "schema", "try", "status", "tail", "dead-letters", "version"):
        assert f" {command} " in shown


@pytest.mark.parametrize(
    "arguments", [("run", "-c", "nowhere"), ("status", "-c", "nowhere"), ("dead-letters", "list", "-c", "nowhere")]
)
def test_invalid_configuration_is_reported_by_every_command(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    """Every command reports an invalid configuration without a traceback, with exit code 1."""
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("nowhere\n    expected a directory")


def test_as_a_program(tmp_path: Path) -> None:
    """`python -m gateway` is the same command: exit codes, words and streams of a program of its own."""
    write_config(tmp_path, acme=WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "acme.yaml:2 retenton" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_session_is_for_one_process(run: Command, tmp_path: Path) -> None:
    """With `mqtt.sessions: one`, several workers would take the session from each other for ever."""
    done = run("run", "-c", write_config(tmp_path, "mqtt: {sessions: one}\n"), "--workers", 2)
    assert done.code == 2
    assert "mqtt.sessions: one" in done.err
