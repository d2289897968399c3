"""Loader: reads a whole configuration directory, and finds every problem in it at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from difflib import get_close_matches
from itertools import combinations, product
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config import models
from gateway.config.hosts import wrong_hosts, wrong_settings
from gateway.config.models import Config, Settings, Startup, StartupFile
from gateway.config.notations import SLUG
from gateway.config.positions import Document, read
from gateway.errors import ConfigInvalid, Problem, TemplateInvalid
from gateway.topics import ROOT, Capture, Template

M = TypeVar("M", bound=BaseModel)

_USER_INFO = re.compile(r"//[^/\s]*@")
"""User name and password in a URL."""
_NEAR_SECRETS = {"token_sha256"}

_EXPECTED = {
    "missing": "this setting, which has no default",
    "extra_forbidden": "a known setting",
    "literal_error": "{expected}",
    "string_type": "a string",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_too_short": "at least {min_length} character(s)",
    "string_too_long": "at most {max_length} characters",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "too_short": "at least {min_length} entry",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "date_from_datetime_parsing": "a date such as 2026-12-18",
    "date_from_datetime_inexact": "a date such as 2026-12-18",
    "finite_number": "a finite number",
    "date_type": "a date such as 2026-12-18",
    "path_type": "a path",
    "expected": "{what}",
}


def load(directory: Path) -> Config:
    """Return the configuration in `directory`: gateway.yaml (optional) and startups/*.yaml.

    Raises:
        ConfigInvalid: with every problem of every file, in reading order.
    """
    problems: list[Problem] = []
    settings = _read_settings(directory, problems)
    startups, documents = _read_startups(directory, problems)
    problems += _across_files(documents)
    if settings is not None:
        problems += _unknown_stores(settings, startups, documents)
        problems += _hosts(directory, settings, startups, documents)
    if problems or settings is None:
        raise ConfigInvalid(problems)
    warnings = tuple(
        f"{startup.slug}: its programme ended on {startup.until}; its messages are rejected"
        for startup in startups
        if startup.until and startup.until < date.today()
    )
    return Config(settings=settings, startups=tuple(startups), warnings=warnings)


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
        return model.model_validate({}, context=_context(directory))
    problems: list[Problem] = []
    found, _ = _read_model(directory, path, model, problems)
    if found is None:
        raise ConfigInvalid(problems)
    return found


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


def _read_startups(directory: Path, problems: list[Problem]) -> tuple[list[Startup], dict[str, Document]]:
    startups: list[Startup] = []
    documents: dict[str, Document] = {}
    folder = directory / "startups"
    paths = sorted(folder.glob("*.y*ml"))
    if not paths and directory.is_dir():
        problems.append(Problem(str(folder), 0, "", "at least one startup, SLUG.yaml", "no such file"))
    for path in paths:
        if path.suffix != ".yaml" or not re.fullmatch(SLUG, path.stem):
            problems.append(
                Problem(
                    str(path),
                    0,
                    "",
                    f"a file name SLUG.yaml with a slug that matches {SLUG}",
                    repr(path.name),
                )
            )
            continue
        file, document = _read_model(directory, path, StartupFile, problems)
        if file is not None:
            startups.append(Startup.model_construct(**dict(file), slug=path.stem))
        if document is not None:
            documents[path.stem] = document
    return startups, documents


def _read_model(
    directory: Path, path: Path, model: type[M], problems: list[Problem]
) -> tuple[M | None, Document | None]:
    try:
        document = read(path, str(path))
    except ConfigInvalid as error:
        problems += error.problems
        return None, None
    try:
        return model.model_validate(document.data, context=_context(directory)), document
    except ValidationError as error:
        found = [_problem(document, details) for details in error.errors(include_url=False)]
        problems += sorted(found, key=lambda problem: problem.line)
        return None, document


def _context(directory: Path) -> dict[str, Path]:
    """Return the validation context, which `PathField` reads."""
    return {"directory": directory.resolve()}


def _problem(document: Document, details: ErrorDetails) -> Problem:
    context = details.get("ctx", {})
    loc = [part for part in details["loc"] if part != "[key]"] + list(context.get("loc", []))
    template = _EXPECTED.get(details["type"])
    expected = template.format(**context) if template else details["msg"]
    if details["type"] == "missing":
        got = "nothing"
    elif details["type"] == "extra_forbidden":
        expected += _nearby(str(loc[-1]))
        got = repr(loc[-1])
    elif str(loc[-1]) in _NEAR_SECRETS:
        got = "something else"  # it may be the secret itself, and errors appear in logs and at /readyz
    else:
        got = context.get("got") or _shown(details["input"])
    return Problem(document.name, document.line(loc), ".".join(map(str, loc)), expected, got)


def _shown(value: object) -> str:
    if isinstance(value, dict | list | BaseModel):
        return "a list" if isinstance(value, list) else "a mapping"
    text = _USER_INFO.sub("//…@", repr(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _nearby(name: str) -> str:
    """Return ` (did you mean ...?)` for a misspelt setting; a known setting in the wrong place is not misspelt."""
    classes = [value for value in vars(models).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    known = {field.alias or key for model in classes for key, field in model.model_fields.items()} - {name}
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]!r}?)" if close else ""


Rule = tuple[str, str, Template]
"""Slug, measurement and template: what the checks across files compare."""


def _across_files(documents: dict[str, Document]) -> Iterator[Problem]:
    rules = [rule for slug, document in documents.items() for rule in _rules(slug, document)]
    for (slug_a, name_a, a), (slug_b, name_b, b) in _candidates(rules):
        if a.overlaps(b):
            yield _overlap(documents[slug_a], name_a, a, documents[slug_b], name_b, b)
    for slug, name, template in rules:
        if template.levels[0] == ROOT and template.levels[1:2] != (slug,):
            loc = ["topics", name, "topic"]
            yield Problem(
                documents[slug].name,
                documents[slug].line(loc),
                ".".join(loc),
                f"its own topics under {ROOT}/{slug}/",
                repr(template.text),
            )


def _unknown_stores(settings: Settings, startups: list[Startup], documents: dict[str, Document]) -> Iterator[Problem]:
    known = ", ".join(settings.stores) or "none yet"
    for startup in startups:
        if startup.store is not None and startup.store not in settings.stores:
            document = documents[startup.slug]
            expected = f"a name under stores in gateway.yaml ({known})"
            yield Problem(document.name, document.line(["store"]), "store", expected, repr(startup.store))


def _hosts(
    directory: Path, settings: Settings, startups: list[Startup], documents: dict[str, Document]
) -> Iterator[Problem]:
    for where, expected, got in wrong_settings(settings):
        yield Problem(str(directory / "gateway.yaml"), 0, where, expected, got)
    for startup in startups:
        document = documents[startup.slug]
        for where, expected, got in wrong_hosts(settings, startup):
            yield Problem(document.name, document.line([where]), where, expected, got)


def _rules(slug: str, document: Document) -> Iterator[Rule]:
    """Yield the templates of a file that are valid, whatever else is wrong in it."""
    topics = document.data.get("topics")
    for name, rule in topics.items() if isinstance(topics, dict) else ():
        text = rule.get("topic") if isinstance(rule, dict) else None
        with suppress(TemplateInvalid):
            if isinstance(text, str):
                yield slug, name, Template.parse(text)


def _candidates(rules: list[Rule]) -> Iterator[tuple[Rule, Rule]]:
    """Yield the pairs that may overlap: those with the same first two levels, and all with captures there."""
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for rule in rules:
        groups.setdefault(rule[2].levels[:2], []).append(rule)
    loose = [key for key in groups if any(isinstance(level, Capture) for level in key)]
    for key, group in groups.items():
        yield from combinations(group, 2)
        if key not in loose:
            yield from ((other, rule) for rule in group for wide in loose for other in groups[wide])
    for wide, narrow in combinations(loose, 2):
        yield from product(groups[wide], groups[narrow])


def _overlap(doc_a: Document, name_a: str, a: Template, doc_b: Document, name_b: str, b: Template) -> Problem:
    loc_a, loc_b = ["topics", name_a, "topic"], ["topics", name_b, "topic"]
    return Problem(
        doc_b.name,
        doc_b.line(loc_b),
        ".".join(loc_b),
        f"a topic that no other rule matches; {doc_a.name}:{doc_a.line(loc_a)} has {a.text!r}, which overlaps",
        repr(b.text),
    )
