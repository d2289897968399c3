"""provision.yaml, and where the admins' secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigInvalid, SecretMissing
from gateway.provision.settings import FILE_NAME, load_provision, secret
from tests.builders import write_config

VARIABLE = "GATEWAY_PROVISION_MQTT_PASSWORD"
ALL = """\
secrets_dir: keep
mosquitto: {url: mqtts://broker.example, ca_file: ca.crt}
influxdb: {url: "http://localhost:8086", token_file: /run/secrets/influxdb}
grafana: {url: "https://grafana.example/g", username: boss, influxdb_url: "http://influxdb:8086"}
"""


def written(directory: Path, text: str) -> Path:
    write_config(directory)
    (directory / FILE_NAME).write_text(text, encoding="utf-8")
    return directory


def test_without_the_file_no_server_is_provisioned(tmp_path: Path) -> None:
    """A configuration without provision.yaml names no server; secrets would be kept beside it."""
    settings = load_provision(write_config(tmp_path / "config"))
    assert (settings.mosquitto, settings.influxdb, settings.grafana) == (None, None, None)
    assert settings.secrets_dir.resolve() == tmp_path / "secrets"


def test_paths_start_at_the_configuration(tmp_path: Path) -> None:
    """Relative paths are of the directory of the file, absolute ones are kept."""
    settings = load_provision(written(tmp_path, ALL))
    assert settings.secrets_dir == tmp_path / "keep"
    assert settings.mosquitto is not None
    assert settings.mosquitto.ca_file == tmp_path / "ca.crt"
    assert settings.influxdb is not None
    assert settings.influxdb.token_file == Path("/run/secrets/influxdb")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://broker", "broker", 1883),
        ("mqtts://broker/", "broker", 8883),
        ("mqtt://10.0.0.1:2883", "10.0.0.1", 2883),
    ],
)
def test_the_brokers_address(tmp_path: Path, url: str, host: str, port: int) -> None:
    """The port is MQTT's own, or that of MQTT over TLS, unless the URL names one."""
    mosquitto = load_provision(written(tmp_path, f"mosquitto: {{url: '{url}'}}")).mosquitto
    assert mosquitto is not None
    assert (mosquitto.host, mosquitto.port) == (host, port)
    assert (mosquitto.username, mosquitto.gateway_user) == ("admin", "gateway")


@pytest.mark.parametrize(
    ("text", "line", "where", "expected"),
    [
        ("mosquitto:\n  url: localhost\n", 2, "mosquitto.url", "a URL such as mqtt://host:1883"),
        ("mosquitto:\n  url: mqtt://host:99999\n", 2, "mosquitto.url", "a URL such as mqtt://host:1883"),
        ("influxdb:\n  token_file: x\n", 1, "influxdb.url", ""),
        ("stores:\n  east:\n    token_file: x\n", 2, "stores.east.url", ""),
        ("\ninfluxdb:\n  url: influx\n", 3, "influxdb.url", "a URL such as http"),
        ("grafana: {url: 'http://g'}\n", 1, "grafana.influxdb_url", ""),
        ("mosquito:\n  url: mqtt://host\n", 1, "mosquito", ""),
        ("mosquitto:\n  url: mqtt://host\n  password: x\n", 3, "mosquitto.password", ""),
    ],
)
def test_errors_are_reported_with_file_and_line(
    tmp_path: Path, text: str, line: int, where: str, expected: str
) -> None:
    """An invalid, missing or unknown setting is reported with its file, line and what was expected."""
    with pytest.raises(ConfigInvalid) as caught:
        load_provision(written(tmp_path, text))
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.where) == (str(tmp_path / FILE_NAME), line, where)
    assert expected in problem.expected


def test_broken_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    """A file that is not YAML is reported as one problem."""
    with pytest.raises(ConfigInvalid) as caught:
        load_provision(written(tmp_path, "mosquitto:\n  url: [\n"))
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / FILE_NAME)
    assert problem.line >= 2


def test_a_secret_file_takes_precedence_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is named holds the secret; without one the environment does."""
    file = tmp_path / "password"
    file.write_text("from the file\n")
    monkeypatch.setenv(VARIABLE, "from the environment")
    assert secret(file, VARIABLE, "the password") == "from the file"
    assert secret(None, VARIABLE, "the password") == "from the environment"


@pytest.mark.parametrize("value", [None, ""])
def test_missing_secret_is_reported(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing, and both places where it may be."""
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(SecretMissing, match=rf"requires the password: name its file in {FILE_NAME}, or set {VARIABLE}"):
        secret(None, VARIABLE, "the password")


def test_missing_secret_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named and missing is an error, whatever the environment has."""
    monkeypatch.setenv(VARIABLE, "from the environment")
    with pytest.raises(SecretMissing, match="nothing-here: expected a file with one secret"):
        secret(tmp_path / "nothing-here", VARIABLE, "the password")
