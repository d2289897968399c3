"""The fenced blocks of README.md, bench/README.md and docs/, and how each one is tested.

The line before a block is an HTML comment, a marker, that readers do not see:

    <!-- run: offline -->              its commands run in a scratch directory, with nothing running
    <!-- run: offline, exit 1 -->      the same, and they end with this status
    <!-- run: gateway -->              its commands run beside a running gateway
    <!-- run: server -->               it is started, and runs until the document ends; it listens then
    <!-- run: background -->           it is started, and runs until the document ends
    <!-- prints -->                    this is what the last command printed
    <!-- background prints -->         this is what the last block in the background prints after what ran since
    <!-- file: PATH -->                it is written to this file, in the directory where the commands run
    <!-- yaml: gateway.yaml -->        it is loaded as this file; a part will do
    <!-- yaml: provision.yaml -->      it is loaded as this file; a part will do
    <!-- yaml: startup -->             it is loaded as a startup's file; a part will do
    <!-- try: TOPIC -> OUTCOME -->     it is a payload; the outcome is `accepted`, `accepted N`, or `code where, …`
    <!-- try retained: … -->           the same as a retained message; also `padded to N` bytes, `after N` others,
                                       `with the end DATE` of its startup, `blocked`
    <!-- answers -->                   these are the reasons that the last payload was rejected for
    <!-- refused by the store -->      this is the feedback for a point of another type than its field has
    <!-- not run: REASON -->           nothing of the above, and why

A block of commands, YAML, JSON or Python without a marker fails a test. In a `console` block lines that begin with
`$ ` are commands, and the lines below them what they print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKED = ("sh", "console", "yaml", "json", "python")

_FENCE = re.compile(r"^```(\w*)$")
_MARKER = re.compile(r"^<!-- (.+) -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `marker` is empty where there is none."""

    path: Path
    line: int
    language: str
    marker: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def kind(self) -> str:
        """Part of the marker up to its colon: `run`, `prints`, `try`, …"""
        return self.marker.partition(":")[0]

    @property
    def argument(self) -> str:
        """Part of the marker behind its colon."""
        return self.marker.partition(":")[2].strip()


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block, and what it prints; None where the document does not say."""

    text: str
    prints: str | None = None


def documents() -> list[Path]:
    """Return README.md, that of bench/, and all of docs/, in a fixed order."""
    return [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(document: Path) -> str:
    """Return the name of a document in the report of a test."""
    return str(document.relative_to(ROOT))


def blocks(document: Path) -> list[Block]:
    return list(_blocks(document))


def all_blocks(kind: str) -> list[Block]:
    """Return the blocks of one kind, of all documents."""
    return [block for document in documents() for block in blocks(document) if block.kind == kind]


def _blocks(document: Path) -> Iterator[Block]:
    marker = ""
    lines = iter(enumerate(document.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if fence := _FENCE.match(line):
            body = []
            for _, inner in lines:
                if inner == "```":
                    break
                body.append(inner)
            yield Block(document, number, fence[1], marker, "\n".join(body))
        found = _MARKER.match(line)
        marker = found[1] if found else ""


def commands(block: Block) -> list[Command]:
    """Return the commands of a block: each one of a `console` block, a `sh` block as a whole."""
    if block.language != "console":
        return [Command(block.text)]
    found: list[Command] = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\") and output:
            more, _, output = output.partition("\n")
            command += "\n" + more
        found.append(Command(command, output.strip("\n") or None))
    return found
