"""Files of startups: each is parsed once for as long as its content stays the same, and all are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from gateway.config.models import Settings
from gateway.config.notations import SLUG
from gateway.config.positions import Document, parse, read
from gateway.config.problems import validated
from gateway.config.startup_file import Startup, StartupFile
from gateway.errors import ConfigInvalid, Problem, TemplateInvalid
from gateway.topics import ROOT, Capture, Template


class Topic(NamedTuple):
    """Topic of a rule: its measurement and template, and its line in the file."""

    measurement: str
    template: Template
    line: int


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """File of a startup as it was read. `startup` is None where there are `problems`; `topics` are those that are valid
    all the same. The tree of the file, which takes much memory, is not kept."""

    path: Path
    content: bytes
    problems: tuple[Problem, ...] = ()
    startup: Startup | None = None
    topics: tuple[Topic, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    """Lines of the settings at the top."""

    @classmethod
    def of(cls, path: Path, content: bytes, directory: Path) -> ParsedFile:
        """Parse and validate it. Paths in it are relative to `directory`."""
        try:
            document = parse(content, str(path))
        except ConfigInvalid as error:
            return cls(path, content, error.problems)
        topics = tuple(_topics(document))
        try:
            file = validated(document, StartupFile, directory)
        except ConfigInvalid as error:
            return cls(path, content, error.problems, None, topics)
        startup = Startup.model_construct(**dict(file), slug=path.stem)
        return cls(path, content, (), startup, topics, {name: document.line([name]) for name in document.data})

    @property
    def slug(self) -> str:
        return self.path.stem

    def problem(self, setting: str, expected: str, got: str) -> Problem:
        """Return a problem with a setting at the top."""
        return Problem(str(self.path), self.lines.get(setting, 1), setting, expected, got)


def _topics(document: Document) -> Iterator[Topic]:
    rules = document.data.get("topics")
    for name, rule in rules.items() if isinstance(rules, dict) else ():
        text = rule.get("topic") if isinstance(rule, dict) else None
        with suppress(TemplateInvalid):
            if isinstance(text, str):
                yield Topic(name, Template.parse(text), document.line(["topics", name, "topic"]))


class StartupFiles:
    """Files of a configuration directory, read again and again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[Path, ParsedFile] = {}

    def read(self, problems: list[Problem]) -> list[ParsedFile]:
        """Return every file that can be read, sorted by name; add what is wrong with each by itself to `problems`.

        A file with the same content as before is the same object, and so is its startup.
        """
        folder = self._directory / "startups"
        paths = sorted(folder.glob("*.y*ml"))
        if not paths and self._directory.is_dir():
            problems.append(Problem(str(folder), 0, "", "at least one startup, SLUG.yaml", "no such file"))
        found: dict[Path, ParsedFile] = {}
        for path in paths:
            if path.suffix != ".yaml" or not re.fullmatch(SLUG, path.stem):
                expected = f"a file name SLUG.yaml with a slug that matches {SLUG}"
                problems.append(Problem(str(path), 0, "", expected, repr(path.name)))
                continue
            try:
                found[path] = self._parsed(path, read(path, str(path)))
            except ConfigInvalid as error:
                problems += error.problems
            else:
                problems += found[path].problems
        self._known = found
        return list(found.values())

    def _parsed(self, path: Path, content: bytes) -> ParsedFile:
        known = self._known.get(path)
        if known is not None and known.content == content:
            return known
        return ParsedFile.of(path, content, self._directory)


# ------------------------------------------------------------------ what only all files together show


class _Rule(NamedTuple):
    file: ParsedFile
    topic: Topic

    def problem(self, expected: str) -> Problem:
        where = f"topics.{self.topic.measurement}.topic"
        return Problem(str(self.file.path), self.topic.line, where, expected, repr(self.topic.template.text))


def conflicts(files: Iterable[ParsedFile]) -> Iterator[Problem]:
    """Yield a problem for each two rules that match the same topic, and for each topic of another startup."""
    rules = [_Rule(file, topic) for file in files for topic in file.topics]
    for a, b in _candidates(rules):
        if a.topic.template.overlaps(b.topic.template):
            other = f"{a.file.path}:{a.topic.line} has {a.topic.template.text!r}, which overlaps"
            yield b.problem(f"a topic that no other rule matches; {other}")
    for rule in rules:
        levels, slug = rule.topic.template.levels, rule.file.path.stem
        if levels[0] == ROOT and levels[1:2] != (slug,):
            yield rule.problem(f"its own topics under {ROOT}/{slug}/")


def unknown_stores(settings: Settings, files: Iterable[ParsedFile]) -> Iterator[Problem]:
    """Yield a problem for each startup whose store gateway.yaml does not have."""
    known = ", ".join(settings.stores) or "none yet"
    for file in files:
        store = file.startup and file.startup.store
        if store is not None and store not in settings.stores:
            expected = f"a name under stores in gateway.yaml ({known})"
            yield file.problem("store", expected, repr(store))


def _candidates(rules: list[_Rule]) -> Iterator[tuple[_Rule, _Rule]]:
    """Yield the pairs that may overlap: those with the same first two levels, and all with captures there."""
    groups: dict[tuple[object, ...], list[_Rule]] = {}
    for rule in rules:
        groups.setdefault(rule.topic.template.levels[:2], []).append(rule)
    loose = [key for key in groups if any(isinstance(level, Capture) for level in key)]
    for key, group in groups.items():
        yield from combinations(group, 2)
        if key not in loose:
            yield from ((other, rule) for rule in group for wide in loose for other in groups[wide])
    for wide, narrow in combinations(loose, 2):
        yield from product(groups[wide], groups[narrow])
