"""Registry of scenarios: what the files of one package register, found automatically."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Scenarios by name. They are registered by decorators in the files of `package`, in the order of the files."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._found: dict[str, T] = {}

    def add(self, name: str, scenario: T) -> None:
        """Register a scenario.

        Raises:
            ValueError: another one has this name.
        """
        if name in self._found:
            raise ValueError(f"two scenarios are called {name}")
        self._found[name] = scenario

    def all(self) -> dict[str, T]:
        """Return all scenarios by name, once every file of the package is imported."""
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return self._found
