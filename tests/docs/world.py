"""The surroundings in which the commands of one document run: a scratch copy of config/, Mosquitto, and the gateway.

Commands run as they stand. Only the ports differ: a configuration that names none, or `localhost:1883`, gets those of
this test; curl and the Mosquitto clients find `localhost:8080` and port 1883 through their own configuration files.
The environment and the directory go on from command to command, as in one terminal.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from ruamel.yaml import YAML

from tests.docs.blocks import ROOT
from tests.servers import WITHIN, Mosquitto, eventually, free_port
from tests.servers.commands import kill_group

TOKENS = {
    "GATEWAY_OPERATOR_TOKEN": "operator-token",
    "GATEWAY_TOKEN_ACME": "acme-token",
    "GATEWAY_TOKEN_GREENBED": "greenbed-token",
    "GATEWAY_TOKEN_VOLTWISE": "voltwise-token",
}


class Background:
    """A command that goes on; what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process = process
        self._output = output

    def printed(self) -> str:
        return self._output.read_text(encoding="utf-8")

    async def end(self) -> int:
        """End it by Ctrl-C, by force when that takes too long; return the exit status."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGINT)
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN):
                await self.process.wait()
        kill_group(self.process)
        return await self.process.wait()


class World:
    """`async with World(tmp_path, broker) as world: await world.run(...)`. It starts the broker, and stops it."""

    def __init__(self, tmp_path: Path, broker: Mosquitto) -> None:
        self.home = tmp_path / "home"
        self.directory = tmp_path / "work"
        self._environment = tmp_path / "environment.sh"
        self._broker = broker
        self._port = free_port()
        self._running: list[tuple[str, Background]] = []
        self.statuses: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        shutil.copytree(ROOT / "config", self.directory / "config")
        self._write_client_settings()
        variables = TOKENS | {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home),
            "CURL_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
        }
        exports = [f"export {key}={shlex.quote(value)}" for key, value in variables.items()]
        self._environment.write_text("\n".join([*exports, f"cd {shlex.quote(str(self.directory))}", ""]))
        await self._broker.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            for command, one in reversed(self._running):
                self.statuses[command] = await one.end()
        finally:
            for _, one in self._running:
                kill_group(one.process)
            await self._broker.stop()

    @property
    def here(self) -> Path:
        """Return the directory in which the next command runs."""
        found = re.findall(r"^cd (.+)$", self._environment.read_text(), re.MULTILINE)
        return Path(shlex.split(found[-1])[0])

    async def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end; return the exit status, and what it printed on either stream."""
        keep = f'{{ export -p; echo cd $(printf %q "$PWD"); }} > {shlex.quote(str(self._environment))}'
        process = await self._spawn(f"{command}\n{keep}", asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(WITHIN):
                output, _ = await process.communicate()
        finally:
            kill_group(process)
        assert process.returncode is not None
        return process.returncode, self._usual_ports(output.decode())

    async def start(self, command: str) -> Background:
        """Start something whose last line goes on until the document ends."""
        before, _, last = command.rpartition("\n")
        if before:
            status, output = await self.run(before)
            assert status == 0, output
        path = self.home / f"background-{len(self._running)}"
        with path.open("wb") as file:
            background = Background(await self._spawn(f"exec {last}", file.fileno()), path)
        self._running.append((last, background))
        return background

    async def serve(self, command: str) -> None:
        """Start the gateway and wait until it takes messages in."""
        server = await self.start(command)

        async def ready() -> bool:
            assert server.process.returncode is None, server.printed()
            try:
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"http://127.0.0.1:{self._port}/readyz")).is_success
            except httpx.TransportError:
                return False

        await eventually(ready, says="the gateway takes messages in")

    def write(self, path: str, text: str) -> None:
        """Write a file of the document."""
        file = self.here / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("localhost:1883", f"127.0.0.1:{self._broker.port}") + "\n", encoding="utf-8")

    async def _spawn(self, script: str, output: int) -> asyncio.subprocess.Process:
        self._set_ports(self.here / "config")
        return await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f"set -euo pipefail\nsource {shlex.quote(str(self._environment))}\n{script}\n",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        )

    def _set_ports(self, config: Path) -> None:
        """Give a configuration the ports of this test, where it does not name any."""
        path = config / "gateway.yaml"
        if not (config / "startups").is_dir():
            return
        yaml = YAML()
        settings = (yaml.load(path) if path.exists() else None) or {}
        if settings.get("http", {}).get("console") is False:
            return  # they are there; the running gateway would notice another change
        settings.setdefault("mqtt", {}).setdefault("url", self._broker.url)
        settings.setdefault("http", {}).setdefault("listen", f"127.0.0.1:{self._port}")
        settings["http"].setdefault("console", False)  # the page takes two seconds to import, and no command needs it
        yaml.dump(settings, path)

    def _write_client_settings(self) -> None:
        self.home.mkdir()
        (self.home / ".curlrc").write_text(f'connect-to = "localhost:8080:127.0.0.1:{self._port}"\n')
        for program in ("mosquitto_pub", "mosquitto_sub"):
            (self.home / program).write_text(f"-h 127.0.0.1\n-p {self._broker.port}\n")

    def _usual_ports(self, text: str) -> str:
        return text.replace(f"127.0.0.1:{self._port}", "127.0.0.1:8080").replace(str(self._broker.port), "1883")
