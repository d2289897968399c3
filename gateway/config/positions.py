"""YAML with positions: plain values for pydantic, and the line of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.scanner import RoundTripScanner, ScannerError

from gateway.errors import ConfigInvalid, Problem

MAX_BYTES = 512 * 1024
MAX_TOKENS = 100_000
"""Values, dashes, colons and commas of a file, which take the time: 50,000 devices."""
MAX_VALUES = 100_000
"""Values with all aliases replaced."""
MAX_DEPTH = 50
MAX_DIGITS = 100
INTEGER = "tag:yaml.org,2002:int"


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


def read(path: Path, name: str) -> bytes:
    """Return the content of one file.

    Raises:
        ConfigInvalid: unreadable, or too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(name, 0, "a readable file", error.strerror or str(error)) from None
    if len(content) > MAX_BYTES:
        raise _unreadable(name, 0, f"a file of at most {MAX_BYTES:,} bytes", "a larger one")
    return content


def parse(content: bytes, name: str) -> Document:
    """Parse the content of one file.

    Raises:
        ConfigInvalid: not UTF-8, not YAML, a key twice, or not a mapping.
    """
    try:
        tree = bounded_yaml().load(content.decode("utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _unreadable(name, line, "valid YAML", _first_line(error.problem or str(error))) from None
    except (YAMLError, ValueError) as error:
        raise _unreadable(name, 0, "YAML in UTF-8", _first_line(str(error))) from None
    if tree is None:
        tree = CommentedMap()
    if not isinstance(tree, CommentedMap):
        got = "a list" if isinstance(tree, CommentedSeq) else "a single value"
        raise _unreadable(name, 1, "a mapping of settings (key: value)", got)
    return Document(name, tree)


def bounded_yaml() -> YAML:
    """Return a parser that rejects a file that is small on disk and large in memory, or takes long to read."""
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    yaml.Scanner = _Scanner
    return yaml


class _Scanner(RoundTripScanner):
    """A scanner that stops early: levels fill Python's stack, and brackets take a time that grows with the square of
    their depth."""

    def fetch_more_tokens(self) -> Any:
        self._tokens = getattr(self, "_tokens", 0) + 1
        if self._tokens > MAX_TOKENS:
            self._stop(f"more than {MAX_TOKENS:,} signs and values")
        return super().fetch_more_tokens()

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        if len(self.flow_context) >= MAX_DEPTH:
            self._stop(f"more than {MAX_DEPTH} levels of brackets")
        super().fetch_flow_collection_start(TokenClass, to_push)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) >= MAX_DEPTH:
            self._stop(f"more than {MAX_DEPTH} levels of indentation")
        return bool(super().add_indent(column))

    def _stop(self, problem: str) -> NoReturn:
        raise ScannerError(None, None, problem, self.reader.get_mark())


class _Constructor(RoundTripConstructor):
    """A constructor that leaves dates to pydantic, so that 2026-02-30 is a problem with a line like any other, and that
    constructs only what has a bounded size with all aliases replaced."""

    def construct_document(self, node: Node) -> Any:
        _check_size(node)
        return super().construct_document(node)


def _check_size(root: Node) -> None:
    """Reject a node that contains itself, or is too large or too deep with aliases replaced. Each is visited once."""
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    entered: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        children = _children(node)
        if id(node) not in entered:
            entered.add(id(node))
            waiting += [child for child in children if id(child) not in entered]
            continue
        waiting.pop()
        if id(node) in sizes:
            continue
        if node.tag == INTEGER and len(node.value) > MAX_DIGITS:  # Python does not convert it to text
            raise ConstructorError(None, None, f"an integer of {len(node.value):,} digits", node.start_mark)
        if any(id(child) not in sizes for child in children):
            raise ConstructorError(None, None, "an alias inside what it stands for", node.start_mark)
        sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children)
        depths[id(node)] = 1 + max((depths[id(child)] for child in children), default=0)
        if depths[id(node)] > 2 * MAX_DEPTH:
            raise ConstructorError(None, None, "aliases nested too deeply", node.start_mark)
        if sizes[id(node)] > MAX_VALUES:
            problem = f"aliases that stand for more than {MAX_VALUES:,} values"
            raise ConstructorError(None, None, problem, node.start_mark)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, SequenceNode) else []


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
