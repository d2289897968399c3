"""Where relative paths start, and where secrets come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Settings, credentials, load
from gateway.errors import SecretMissing
from tests.builders import STARTUP, config, startup, write_config

HALL_2 = Settings.model_validate({"stores": {"hall-2": {"kind": "influxdb"}}})


def test_relative_paths_start_at_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are relative to the configuration's directory, wherever the gateway was started."""
    settings = "state_dir: state\nmqtt: {ca_file: tls/ca.pem, key_file: /etc/key.pem}\n"
    write_config(tmp_path / "config", settings, acme=f"token_file: acme.token\n{STARTUP}")
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("config"))
    monkeypatch.chdir("/")
    assert loaded.state_dir == tmp_path / "config/state"
    assert loaded.settings.mqtt.ca_file == tmp_path / "config/tls/ca.pem"
    assert loaded.settings.mqtt.key_file == Path("/etc/key.pem")
    assert loaded.startups[0].token_file == tmp_path / "config/acme.token"


def test_default_state_dir_is_beside_the_directory(tmp_path: Path) -> None:
    """Without a setting, state is kept in var/ beside the configuration, with gateway.yaml and without."""
    for gateway in (None, ""):
        loaded = load(write_config(tmp_path / "config", gateway))
        assert loaded.state_dir.resolve() == (tmp_path / "var").resolve()


def test_secret_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's secret is taken without the line break at its end, and goes before the environment."""
    monkeypatch.setenv("GATEWAY_MQTT_PASSWORD", "from the environment")
    (tmp_path / "secret").write_text("  from the file\n")
    settings = Settings.model_validate({"mqtt": {"password_file": tmp_path / "secret"}})
    assert credentials.mqtt_password(settings.mqtt) == "from the file"


@pytest.mark.parametrize(
    ("variable", "find"),
    [
        ("GATEWAY_MQTT_PASSWORD", lambda: credentials.mqtt_password(Settings().mqtt)),
        ("GATEWAY_OPERATOR_TOKEN", lambda: credentials.operator_token(Settings())),
        ("GATEWAY_INFLUXDB_TOKEN", lambda: credentials.influxdb_token(Settings())),
        ("GATEWAY_INFLUXDB_TOKEN_HALL_2", lambda: credentials.influxdb_token(HALL_2, "hall-2")),
        ("GATEWAY_TOKEN_ACME_AIR", lambda: credentials.startup_token(startup("acme-air"))),
    ],
)
def test_secret_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, find: Callable[[], str | None]
) -> None:
    """Each secret has an environment variable; that of a startup or of a further store ends in its name."""
    monkeypatch.setenv(variable, "hidden")
    assert find() == "hidden"


def test_secret_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is nowhere, or empty in the environment, is None."""
    monkeypatch.setenv("GATEWAY_OPERATOR_TOKEN", "")
    assert credentials.operator_token(Settings()) is None
    assert credentials.startup_token(config().startups[0]) is None


def test_influxdb_needs_its_token() -> None:
    """Without a token the InfluxDB store says both ways to give one."""
    with pytest.raises(SecretMissing, match=r"store\.influxdb\.token_file .*GATEWAY_INFLUXDB_TOKEN"):
        credentials.influxdb_token(Settings())
    with pytest.raises(SecretMissing, match=r"stores\.hall-2\.influxdb\.token_file .*GATEWAY_INFLUXDB_TOKEN_HALL_2"):
        credentials.influxdb_token(HALL_2, "hall-2")


def test_no_store_takes_the_token_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default store's token is not sent to another instance."""
    monkeypatch.setenv("GATEWAY_INFLUXDB_TOKEN", "hidden")
    with pytest.raises(SecretMissing):
        credentials.influxdb_token(HALL_2, "hall-2")


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b" \n", "it is empty"), (b"\xff\xfe", "not valid UTF-8")]
)
def test_secret_file_unusable(tmp_path: Path, content: bytes | None, says: str) -> None:
    """A named file that is missing, empty or not text is reported, never ignored."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretMissing, match=f"{path}: expected a file with one secret; .*{says}"):
        credentials.find(path, "GATEWAY_UNUSED")


def test_secret_file_that_is_not_a_path(tmp_path: Path) -> None:
    """An invalid file name is reported like a missing file."""
    with pytest.raises(SecretMissing, match="expected a file with one secret; embedded null"):
        credentials.find(tmp_path / "a\0b", "GATEWAY_UNUSED")
