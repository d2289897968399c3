"""The command line of the fleet: help, wrong options, broker addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from devices.__main__ import app
from devices.broker import Broker, BrokerUrlError, parse
from devices.fleet import Share
from devices.options import duration, share

PLAIN = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "100", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env=PLAIN)


def test_help_explains() -> None:
    """--help names every option, and the startups."""
    result = run("--help")
    assert result.exit_code == 0
    options = "--broker --ca-file --startup --devices --rate --misbehaving --seed --for --quiet --json --protocol"
    for word in [*options.split(), "acme", "voltwise", "greenbed", "DEVICES_PASSWORD"]:
        assert word in result.output


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost", "mqtt:// or mqtts://"),
        ("localhost:1883", "mqtt:// or mqtts://"),
        ("mqtt://localhost:many", "port must be a number"),
        ("mqtt://localhost:99999", "port must be a number"),
        ("mqtt://", "a valid host"),
        ("mqtt://a..b", "a valid host"),
        ("mqtt://localhost/testbed", "nothing may follow"),
    ],
)
def test_broken_url_is_explained(url: str, says: str) -> None:
    """A broker address that cannot be used ends with code 2, and says what it should look like."""
    result = run("--broker", url)
    assert result.exit_code == 2
    assert says in result.output
    assert "mqtt://localhost:1883" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--startup", "globex"], "acme, voltwise, greenbed"),
        (["--for", "soon"], "20s, 5m or 2h"),
        (["--misbehaving", "1.5"], "fraction"),
        (["--devices", "0"], "--devices"),
        (["--rate", "0"], "--rate"),
        (["--ca-file", "ca.pem"], "requires mqtts://"),
        (["--broker", "mqtts://localhost", "--ca-file", "absent.pem"], "absent.pem"),
    ],
)
def test_wrong_options_are_explained(arguments: list[str], says: str) -> None:
    """An option that makes no sense ends with code 2 and a sentence about it."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_password_is_never_shown() -> None:
    """Neither an error about the address nor the broker's text holds the password."""
    assert "hidden" not in run("--broker", "mqtt://joe:hidden@localhost/x").output
    broker = parse("mqtt://joe:hidden@localhost")
    assert "hidden" not in f"{broker} {broker!r}"


def test_address_is_read_in_full() -> None:
    """User, password (percent-decoded), host and port are taken from the URL; the defaults fill the rest."""
    assert parse("mqtt://joe:a%2Fb@broker.lan:2000") == Broker("broker.lan", 2000, "joe", "a/b")
    assert parse("mqtt://joe@[::1]", password="kept") == Broker("::1", 1883, "joe", "kept")
    assert str(parse("mqtt://[::1]")) == "mqtt://[::1]:1883"


def test_mqtts_means_tls() -> None:
    """mqtts:// asks for TLS, on port 8883 by default."""
    broker = parse("mqtts://broker.lan")
    assert broker.tls is not None
    assert str(broker) == "mqtts://broker.lan:8883"


def test_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    """A CA file without a certificate is rejected before anything runs."""
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    with pytest.raises(BrokerUrlError, match=r"ca\.pem"):
        parse("mqtts://broker.lan", ca_file=tmp_path / "ca.pem")


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("20s", 20), ("1.5m", 90), ("2h", 7200), ("0", 0)])
def test_durations(text: str, seconds: float) -> None:
    """Durations carry their unit."""
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", Share()),
        ("2", Share(count=2)),
        ("0.25", Share(fraction=0.25)),
        ("25%", Share(fraction=0.25)),
        ("1.0", Share(fraction=1)),
    ],
)
def test_shares(text: str, expected: Share) -> None:
    """An integer counts devices; a decimal or a percentage is a share of them."""
    assert share(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "150%", "half"])
def test_no_shares(text: str) -> None:
    """Text that is neither a fraction nor a count is rejected."""
    with pytest.raises(typer.BadParameter):
        share(text)
