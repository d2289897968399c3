"""Problems with settings: pydantic's errors, each with its place, what was expected, and what was found."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config import models, startup_file
from gateway.config.positions import Document
from gateway.errors import ConfigInvalid, Problem

M = TypeVar("M", bound=BaseModel)

_USER_INFO = re.compile(r"//[^/\s]*@")
"""User name and password in a URL."""
_NEAR_SECRETS = {"token_sha256"}

_EXPECTED = {
    "missing": "this setting, which has no default",
    "extra_forbidden": "a known setting",
    "literal_error": "{expected}",
    "string_type": "a string",
    "string_unicode": "text in Unicode",
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


def validated(document: Document, model: type[M], directory: Path) -> M:
    """Return the contents of a file as its model. Paths in it are relative to `directory`.

    Raises:
        ConfigInvalid: with every problem in it, in reading order.
    """
    try:
        return model.model_validate(document.data, context=context(directory))
    except ValidationError as error:
        found = [_problem(document, details) for details in error.errors(include_url=False)]
        raise ConfigInvalid(sorted(found, key=lambda problem: problem.line)) from None


def context(directory: Path) -> dict[str, Path]:
    """Return the validation context, which `PathField` reads."""
    return {"directory": directory.resolve()}


def _problem(document: Document, details: ErrorDetails) -> Problem:
    context = details.get("ctx", {})
    loc = [part for part in details["loc"] if part != "[key]"] + list(context.get("loc", []))
    last = str(loc[-1]) if loc else ""  # empty for the file as a whole, such as one with a key that is not Unicode
    template = _EXPECTED.get(details["type"])
    expected = template.format(**context) if template else details["msg"]
    if details["type"] == "missing":
        got = "nothing"
    elif details["type"] == "extra_forbidden":
        expected += _nearby(last)
        got = repr(last)
    elif last in _NEAR_SECRETS:
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
    values = (vars(models) | vars(startup_file)).values()
    classes = [value for value in values if isinstance(value, type) and issubclass(value, BaseModel)]
    known = {field.alias or key for model in classes for key, field in model.model_fields.items()} - {name}
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]!r}?)" if close else ""
