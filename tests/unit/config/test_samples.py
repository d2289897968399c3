"""The configuration that the repository ships: it loads, it is the reference, and the JSON Schema takes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from gateway.config import Settings, StartupFile, load
from tests.builders import SAMPLES, samples
from tests.unit.config.json_schema import complaints

SETTING = re.compile(r"^# ( *[a-z_]+:)")
STARTUPS = sorted((SAMPLES / "startups").glob("*.yaml"))


def uncommented() -> str:
    """The sample gateway.yaml with each of its commented settings in force."""
    lines = (SAMPLES / "gateway.yaml").read_text(encoding="utf-8").splitlines()
    return "\n".join(SETTING.sub(r"\1", line) for line in lines)


def plain(text: str) -> Any:
    """YAML as JSON knows it: dates as strings."""
    return YAML(typ="safe", pure=True).load(re.sub(r"(\d{4}-\d\d-\d\d)", r'"\1"', text))


def settings_of(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """The path of every setting below a model."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((name, *below) for below in settings_of(kind))
        else:
            yield (name,)


def test_samples_load() -> None:
    """The shipped configuration loads, with the three startups of the demo."""
    loaded = samples()
    assert [startup.slug for startup in loaded.startups] == ["acme", "greenbed", "voltwise"]
    assert set(loaded.by_slug["acme"].topics) == {"climate", "air"}
    assert loaded.by_slug["voltwise"].retention == 365 * 86_400


def test_sample_holds_every_setting() -> None:
    """Every setting that gateway.yaml may have stands in the sample."""
    tree = plain(uncommented())
    for path in settings_of(Settings):
        here = tree
        for name in path:
            assert name in here, f"{'.'.join(path)} is not in config/gateway.yaml"
            here = here[name]


def test_sample_shows_the_defaults(tmp_path: Path) -> None:
    """Every setting of the sample stands at its default: in force, it changes nothing."""
    shutil.copytree(SAMPLES, tmp_path / "config")
    (tmp_path / "config/gateway.yaml").write_text(uncommented(), encoding="utf-8")
    in_force = load(tmp_path / "config").settings
    (tmp_path / "config/gateway.yaml").unlink()
    assert in_force == load(tmp_path / "config").settings
    assert in_force.model_copy(update={"state_dir": None}) == Settings().model_copy(update={"state_dir": None})


def test_shipped_gateway_yaml_sets_nothing() -> None:
    """As it is shipped, gateway.yaml is all comments."""
    assert plain((SAMPLES / "gateway.yaml").read_text(encoding="utf-8")) is None


def test_schema_takes_gateway_yaml() -> None:
    """An editor with the JSON Schema of gateway.yaml does not complain of the sample."""
    assert complaints(Settings.model_json_schema(), plain(uncommented())) == []


@pytest.mark.parametrize("path", STARTUPS, ids=lambda path: path.stem)
def test_schema_takes_startups(path: Path) -> None:
    """An editor with the JSON Schema of startup files does not complain of the samples."""
    assert complaints(StartupFile.model_json_schema(), plain(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("model", "wrong", "where"),
    [
        (Settings, {"mqtt": {"in_flight": 0}}, "/mqtt/in_flight"),
        (Settings, {"drain": {"interval": 5}}, "/drain/interval"),
        (Settings, {"stoer": {}}, "/stoer"),
        (Settings, {"stores": {"east": {"kind": "influx"}}}, "/stores/east/kind"),
        (StartupFile, {"topics": {}}, "/"),
        (StartupFile, {"name": "A", "topics": {"x": {"fields": {}}}}, "/topics/x/fields"),
        (StartupFile, {"name": "A", "topics": {}, "retention": "long"}, "/retention"),
    ],
)
def test_schema_complains(model: type[BaseModel], wrong: Any, where: str) -> None:
    """The JSON Schema shows an editor what is wrong, and where."""
    assert any(found.startswith(f"{where}:") for found in complaints(model.model_json_schema(), wrong))
