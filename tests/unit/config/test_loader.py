"""Loading again: what has not changed is not parsed again, and the result is that of a first load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, Loader
from gateway.errors import ConfigInvalid
from tests.builders import STARTUP, write_config

BETA = STARTUP.replace("acme", "beta").replace("Acme Air", "Beta")
CONTENTS = (
    None,
    STARTUP,
    BETA,
    STARTUP.replace("float", "int"),
    STARTUP.replace("float", "number"),
    STARTUP.replace("testbed/acme", "lora/x"),
    STARTUP + "store: second\n",
    "topics: [",
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_config(tmp_path, acme=STARTUP, beta=BETA)


def test_an_unchanged_startup_stays_the_same_object(directory: Path) -> None:
    """Of two startups one changes: the other is the very object of the first load, so that its rules stay compiled."""
    loader = Loader(directory)
    before = loader.load()
    (directory / "startups" / "beta.yaml").write_text(BETA.replace("float", "int"))
    after = loader.load()
    assert after.by_slug["acme"] is before.by_slug["acme"]
    assert after.by_slug["beta"].topics["climate"].fields["temperature"].type == "int"


def test_a_change_of_equal_length_within_the_same_moment_is_noticed(directory: Path) -> None:
    """A file whose size and time of change stay the same, as after two edits in one tick of the clock, is read."""
    path = directory / "startups" / "acme.yaml"
    loader, stat = Loader(directory), path.stat()
    loader.load()
    path.write_text(STARTUP.replace("Acme Air", "Acme Sky"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert loader.load().by_slug["acme"].name == "Acme Sky"


def test_an_unchanged_file_conflicts_with_a_changed_one(directory: Path) -> None:
    """Where a changed file takes the topics of an unchanged one, the problem names the lines of both."""
    loader = Loader(directory)
    loader.load()
    (directory / "startups" / "beta.yaml").write_text(STARTUP)
    with pytest.raises(ConfigInvalid) as caught:
        loader.load()
    text = str(caught.value)
    assert f"{directory / 'startups' / 'beta.yaml'}:4" in text
    assert f"{directory / 'startups' / 'acme.yaml'}:4" in text


def loaded(loader: Loader) -> Config | str:
    try:
        return loader.load()
    except ConfigInvalid as error:
        return str(error)


@given(st.lists(st.tuples(st.sampled_from(("acme", "beta", "gamma")), st.sampled_from(CONTENTS)), max_size=6))
def test_loading_again_gives_what_a_first_load_gives(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, str | None]]
) -> None:
    """After any edits, valid or not, a loader that has seen all of them returns, or reports, what a new one does."""
    directory = write_config(tmp_path_factory.mktemp("config"), acme=STARTUP)
    loader = Loader(directory)
    for slug, content in edits:
        path = directory / "startups" / f"{slug}.yaml"
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(content)
        assert loaded(loader) == loaded(Loader(directory))
