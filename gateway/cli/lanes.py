"""`gateway lanes`: the ways of readings from the journal to the stores, one for each startup."""

from __future__ import annotations

import typer

from gateway.cli.http_client import Client
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, Token, Url, print_json
from gateway.cli.rendering import console
from gateway.config import credentials, load

app = typer.Typer(no_args_is_help=True, help="Lanes: the readings of each startup on their way to its store.")


@app.callback()
def lanes() -> None:
    """Keep `release` a command of its own: typer would run a single one without its name."""


@app.command("release")
def release_lane(
    startup: str, config: ConfigDir = DEFAULT_DIR, token: Token = None, url: Url = None, json: Json = False
) -> None:
    """Let a lane go on that has stopped because its store refuses most readings: those that it refuses of what waits
    become dead letters."""
    loaded = load(config)
    client = Client(loaded, token or credentials.operator_token(loaded.settings), url)
    answer = client.post("/v1/operator/lanes/release", {"startup": startup})
    if json:
        print_json(answer)
    elif answer["released"]:
        console().print(f"{startup}: the lane goes on; see `gateway status` and `gateway dead-letters list {startup}`")
    else:
        console().print(f"{startup}: the lane had not stopped")
    raise typer.Exit(0 if answer["released"] else 1)
