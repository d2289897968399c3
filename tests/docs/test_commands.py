"""Every command in the documentation is run, in its order, and prints what the document says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docs.blocks import Block, Command, blocks, commands, documents, name
from tests.docs.compare import plain, prints
from tests.docs.world import Background, World
from tests.servers import Mosquitto, eventually, need
from tests.servers.dynsec import SecureMosquitto

CHANGES_SOMETHING = re.compile(r"replay|mosquitto_pub|>|provision apply|startups |devices |cohort ")


def with_commands() -> list[Path]:
    return [path for path in documents() if any(block.kind == "run" for block in blocks(path))]


class Reader:
    """Somebody who follows a document from its top to its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._serving = False
        self._background: Background | None = None
        self._since: list[Block] = []
        self._last: Command | None = None

    async def follow(self, block: Block, after: Sequence[Block]) -> None:
        """Do what a block says; `after` are the blocks below it."""
        match block.kind:
            case "file" | "wrong file":
                self._world.write(block.argument, block.text)
            case "run":
                await self._run(block, after)
            case "background prints":
                await self._background_prints(block)

    async def _run(self, block: Block, after: Sequence[Block]) -> None:
        where, _, status = block.argument.partition(", exit ")
        match where:
            case "server":
                await self._world.serve(block.text)
                self._serving = True
            case "background":
                await self._serve()
                self._background, self._since = await self._world.start(block.text), []
            case "gateway" | "offline":
                if where == "gateway":
                    await self._serve()
                self._since.append(block)
                await self._run_each(block, _printed_below(after), int(status or 0))
            case _:
                raise AssertionError(f"{block}: there is no way to run {where!r}")

    async def _serve(self) -> None:
        if not self._serving:
            await self._world.serve("gateway run")
            self._serving = True

    async def _run_each(self, block: Block, below: Block | None, status: int) -> None:
        several = commands(block)
        for number, command in enumerate(several):
            is_last = number == len(several) - 1
            expected = below if is_last and below else Block(block.path, block.line, "text", "", command.prints or "")
            await self._run_one(command, expected, status if is_last else 0)

    async def _run_one(self, command: Command, expected: Block, status: int) -> None:
        """Until it prints what it should: what was published a moment ago takes its time to the store."""
        once = bool(CHANGES_SOMETHING.search(command.text)) or not expected.text

        async def printed() -> bool:
            got, output = await self._world.run(command.text)
            says = f"{expected}: `{command.text}` ended with {got}, and printed:\n{plain(output)}"
            if got != status:
                pytest.fail(says)
            if not expected.text or prints(expected.text, output, expected.language):
                return True
            if once:
                pytest.fail(f"{says}\nThe document says:\n{expected.text}")
            raise AssertionError(f"{says}\nThe document says:\n{expected.text}")

        await eventually(printed, every=0.2, says=str(expected))

    async def _background_prints(self, block: Block) -> None:
        """What ran since the start is done again until it is printed: nothing shows when a listener listens. So what
        a document says below must not depend on how often that was."""
        background = self._background
        assert background is not None, f"{block}: nothing runs in the background"

        async def printed() -> bool:
            lines = [line for line in plain(background.printed()).splitlines() if line]
            count = 1 if block.language == "json" else len(block.text.splitlines())
            return any(
                prints(block.text, "\n".join(lines[start : start + count]), block.language)
                for start in range(len(lines) - count + 1)
            )

        async def printed_in_a_while() -> bool:
            try:
                return await eventually(printed, within=2)
            except AssertionError:
                for again in self._since:
                    await self._world.run(again.text)
                raise AssertionError(f"expected\n{block.text}\ngot\n{plain(background.printed())}") from None

        await eventually(printed_in_a_while, says=str(block))


def _printed_below(after: Sequence[Block]) -> Block | None:
    return after[0] if after and after[0].marker == "prints" else None


@pytest.mark.parametrize("document", with_commands(), ids=name)
async def test_every_command_does_what_the_document_says(document: Path, tmp_path: Path) -> None:
    """A reader who follows the document from top to end sees what it says; the gateway ends with status 0."""
    need("mosquitto", "mosquitto_pub", "curl")
    several = blocks(document)
    broker = SecureMosquitto if document.stem == "provisioning" else Mosquitto
    async with World(tmp_path, broker(tmp_path / "mosquitto")) as world:
        reader = Reader(world)
        for number, block in enumerate(several):
            await reader.follow(block, several[number + 1 :])
    assert world.statuses.get("gateway run", 0) == 0, "the gateway did not end well"
