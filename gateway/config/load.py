"""Loader: reads a whole configuration directory, and finds every problem in it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from gateway.config.hosts import wrong_hosts, wrong_settings
from gateway.config.look import Look, look
from gateway.config.models import Config, Settings
from gateway.config.parsed_files import ParsedFile, StartupFiles, conflicts, unknown_stores
from gateway.config.positions import parse, read
from gateway.config.problems import context, validated
from gateway.errors import ConfigInvalid, Problem

M = TypeVar("M", bound=BaseModel)


class Loader:
    """Loader of one directory: gateway.yaml (optional) and startups/*.yaml.

    Between two loads, a startup whose file has the same content stays the same object: with a thousand startups a
    reload parses the one that has changed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._startup_files = StartupFiles(directory)
        self._seen: Look | None = None

    def has_changed(self) -> bool:
        """Return whether a file may have changed since the last load began.

        Raises:
            OSError: the directory cannot be read now.
        """
        return look(self.directory) != self._seen

    def load(self) -> Config:
        """Return the configuration as the files are now.

        Raises:
            ConfigInvalid: with every problem of every file, in reading order.
        """
        self._seen = None  # until it is known
        with suppress(OSError):
            self._seen = look(self.directory)
        problems: list[Problem] = []
        settings = _read_settings(self.directory, problems)
        files = self._startup_files.read(problems)
        problems += conflicts(files)
        if settings is not None:
            problems += unknown_stores(settings, files)
            problems += _hosts(self.directory, settings, files)
        if problems or settings is None:
            raise ConfigInvalid(problems)
        startups = tuple(file.startup for file in files if file.startup)
        warnings = tuple(
            f"{startup.slug}: its programme ended on {startup.until}; its messages are rejected"
            for startup in startups
            if startup.until and startup.until < date.today()
        )
        return Config(settings=settings, startups=startups, warnings=warnings)


def load(directory: Path) -> Config:
    """Return the configuration in `directory`.

    Raises:
        ConfigInvalid: with every problem of every file, in reading order.
    """
    return Loader(directory).load()


def load_settings(directory: Path) -> Settings:
    """Return gateway.yaml alone, to find a running gateway whatever is wrong with the startups' files.

    Raises:
        ConfigInvalid: with every problem in it.
    """
    problems: list[Problem] = []
    settings = _read_settings(directory, problems)
    if settings is None:
        raise ConfigInvalid(problems)
    return settings


def read_file(directory: Path, name: str, model: type[M]) -> M:
    """Return one file of the directory; the defaults of its model if it does not exist.

    Raises:
        ConfigInvalid: with every problem in it.
    """
    path = directory / name
    if not path.exists():
        return model.model_validate({}, context=context(directory))
    return validated(parse(read(path, str(path)), str(path)), model, directory)


def _hosts(directory: Path, settings: Settings, files: Iterable[ParsedFile]) -> Iterator[Problem]:
    for where, expected, got in wrong_settings(settings):
        yield Problem(str(directory / "gateway.yaml"), 0, where, expected, got)
    for file in files:
        for where, expected, got in wrong_hosts(settings, file.startup) if file.startup else ():
            yield file.problem(where, expected, got)


def _read_settings(directory: Path, problems: list[Problem]) -> Settings | None:
    if not directory.is_dir():
        problems.append(
            Problem(str(directory), 0, "", "a directory with gateway.yaml and startups/", "no such directory")
        )
        return None
    try:
        return read_file(directory, "gateway.yaml", Settings)
    except ConfigInvalid as error:
        problems += error.problems
        return None
