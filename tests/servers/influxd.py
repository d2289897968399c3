"""Debian's influxd 1.6.7: the real storage engine, on disk, behind `influx_v2_front`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from tests.servers.processes import ServerFailed, ServerProcess, free_port

CONFIGURATION = """\
reporting-enabled = false
bind-address = "{host}:{rpc_port}"

[meta]
  dir = "{directory}/meta"

[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false

[monitor]
  store-enabled = false

[http]
  bind-address = "{host}:{port}"
  log-enabled = false
  max-body-size = 0
"""


class Influxd(ServerProcess):
    """An influxd without accounts: `async with Influxd(tmp_path) as influxd: ... influxd.url`.

    What it answered 204 is fsynced, so that it survives `kill()` as well as `stop()`.
    """

    binary = "influxd"
    scheme = "http"

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        self._rpc_port = free_port()

    def prepare(self) -> list[str]:
        path = self.directory / "influxd.conf"
        path.write_text(
            CONFIGURATION.format(host=self.host, port=self.port, rpc_port=self._rpc_port, directory=self.directory)
        )
        return ["-config", str(path)]

    async def rows(self, database: str, query: str) -> list[list[Any]]:
        """Return what InfluxQL finds: the values of all series, one after the other, times in ns; [] for nothing.

        The query goes to the engine itself, past any front or proxy. ServerFailed when the query is refused.
        """
        asked = {"db": database, "q": query, "epoch": "ns"}
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/query", data=asked) as answer:
            found = await answer.json()
        result = found.get("results", [found])[0]
        if "error" in result:
            raise ServerFailed(result["error"])
        return [row for series in result.get("series", []) for row in series["values"]]
