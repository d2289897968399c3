"""YAML with positions: plain values for pydantic, and the line of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.errors import ConfigInvalid, Problem


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: its name as shown to people, and the tree with positions."""

    name: str
    tree: CommentedMap

    @property
    def data(self) -> dict[str, Any]:
        """Its values as plain dictionaries, lists and values."""
        return {str(key): _plain(value) for key, value in self.tree.items()}

    def line(self, loc: Sequence[str | int]) -> int:
        """Return the line (from 1) of the value at `loc`, or of its nearest ancestor that exists."""
        node: Any = self.tree
        line = 1
        for key in loc:
            if isinstance(node, CommentedMap) and key in node:
                position = (node.lc.data or {}).get(key)  # none if it was merged in (`<<: *defaults`)
                line = position[0] + 1 if position else line
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line = node.lc.item(key)[0] + 1
            else:
                break
            node = node[key]
        return line


def read(path: Path, name: str) -> Document:
    """Parse one file.

    Raises:
        ConfigInvalid: unreadable, not UTF-8, not YAML, a key twice, or not a mapping.
    """
    try:
        yaml = YAML(typ="rt")
        yaml.Constructor = _Constructor
        tree = yaml.load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _unreadable(name, line, "valid YAML", _first_line(error.problem or str(error))) from None
    except (YAMLError, ValueError) as error:
        raise _unreadable(name, 0, "YAML in UTF-8", _first_line(str(error))) from None
    except RecursionError:
        raise _unreadable(name, 0, "YAML with fewer nested levels", "levels nested too deeply") from None
    except OSError as error:
        raise _unreadable(name, 0, "a readable file", error.strerror or str(error)) from None
    if tree is None:
        tree = CommentedMap()
    if not isinstance(tree, CommentedMap):
        got = "a list" if isinstance(tree, CommentedSeq) else "a single value"
        raise _unreadable(name, 1, "a mapping of settings (key: value)", got)
    return Document(name, tree)


class _Constructor(RoundTripConstructor):
    """A constructor that leaves dates to pydantic, so that 2026-02-30 is a problem with a line like any other."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", RoundTripConstructor.construct_scalar)


def _unreadable(name: str, line: int, expected: str, got: str) -> ConfigInvalid:
    return ConfigInvalid([Problem(name, line, "", expected, got)])


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "an error without a message"


def _plain(node: Any) -> Any:
    """Convert ruamel.yaml's round-trip types to those that pydantic and JSON know."""
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
