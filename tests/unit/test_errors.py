"""The tree of exceptions, and what each reports to the code that catches it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import gateway
from gateway import errors
from gateway.errors import ConfigInvalid, GatewayError, MeasurementUnknown, Problem, StoreThrottled, StoreUnavailable

_BRANCH = re.compile(r"^    ((?:[|`][- ]{3}|    )*)([A-Z]\w+)", re.MULTILINE)


def drawn() -> set[tuple[str, str]]:
    """Return the pairs of (base, exception) in the tree that the module's docstring draws."""
    found: set[tuple[str, str]] = set()
    path: list[str] = []
    for branches, name in _BRANCH.findall(errors.__doc__ or ""):
        path[len(branches) // 4 :] = [name]
        found.update(zip(path[-2:-1], [name], strict=False))
    return found


def real(base: type[Exception] = GatewayError) -> Iterator[tuple[str, str]]:
    """Return the pairs of (base, exception) that the code has."""
    for one in base.__subclasses__():
        yield base.__name__, one.__name__
        yield from real(one)


def test_the_tree_is_drawn_as_it_is() -> None:
    """The docstring of `gateway.errors` draws every exception below its base, and no other."""
    assert drawn() == set(real())


def test_exceptions_stand_in_one_module() -> None:
    """No module of the gateway but `gateway.errors` defines an exception, and all of those are in the tree."""
    modules = [importlib.import_module(one.name) for one in pkgutil.walk_packages(gateway.__path__, "gateway.")]
    defined = {
        (module.__name__, name)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.__name__
    }
    assert defined == {(errors.__name__, name) for name in {"GatewayError"} | {name for _, name in real()}}


def test_names_follow_one_scheme() -> None:
    """The root and the branches directly below it end in `Error`; all other names do not."""
    branches = {base for base, _ in real()}
    named_error = {name for _, name in real() if name.endswith("Error")}
    assert named_error == {name for base, name in real() if base == "GatewayError" and name in branches}


def test_delay_of_the_next_try() -> None:
    """A store that asks for a pause gets it, or the longer one that backoff says."""
    assert StoreUnavailable("down").delay(3) == 3
    assert StoreThrottled("slow", retry_after=10).delay(3) == 10
    assert StoreThrottled("slow", retry_after=10).delay(30) == 30


def test_unknown_measurement() -> None:
    """A query for an unknown measurement is answered with the known ones."""
    assert (
        str(MeasurementUnknown("air", ["climate", "soil"])) == "there is no measurement 'air'; there are: climate, soil"
    )
    assert str(MeasurementUnknown("air", [])) == "there is no measurement 'air'; there are: none yet"


def test_problems_as_text() -> None:
    """A problem reads `file:line: setting: expected ...; got ...`, without the parts that it does not have."""
    whole = Problem("a.yaml", 3, "log.level", "info", "'loud'")
    bare = Problem("a.yaml", 0, "", "YAML", "a list")
    assert str(ConfigInvalid([whole, bare])) == (
        "2 problems in the configuration\n"
        "a.yaml:3: log.level: expected info; got 'loud'\n"
        "a.yaml: expected YAML; got a list"
    )
