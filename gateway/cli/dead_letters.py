"""`gateway dead-letters`: rejected messages, kept with their raw bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from gateway.cli import rendering
from gateway.cli.http_client import Client
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, Token, Url, print_json
from gateway.config import credentials, load
from gateway.model import UNROUTED
from gateway.state import dead_letters
from gateway.state.dead_letters import NEWEST, DeadLetter
from gateway.state.reader import StateReader

app = typer.Typer(no_args_is_help=True, help="Rejected messages, kept with their raw bytes.")


@app.command("list")
def list_dead_letters(
    startup: Annotated[str | None, typer.Argument(help="Only those of this startup.")] = None,
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    unrouted: Annotated[bool, typer.Option("--unrouted", help="Only messages that belong to no startup.")] = False,
) -> None:
    """List dead letters, the newest first, each with the beginning of its payload."""
    state = StateReader(load(config).state_dir)
    found = list(islice(_newest(state, UNROUTED if unrouted else startup), limit))
    if json:
        print_json([letter.as_json() for letter in found])
    else:
        rendering.console().print(rendering.dead_letters(found))


def _newest(state: StateReader, startup: str | None) -> Iterator[DeadLetter]:
    place = NEWEST
    while (page := state.dead_letters(startup, before=place)).letters:
        yield from page.letters
        place = page.letters[-1].place


@app.command("show")
def show_dead_letter(
    ident: Annotated[int, typer.Argument(metavar="ID", min=0, max=dead_letters.MAX_ID)],
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Show a dead letter with its payload and every reason."""
    found = StateReader(load(config).state_dir).dead_letter(ident)
    if found is None:
        raise typer.BadParameter(f"there is no dead letter {ident}; see `gateway dead-letters list`")
    if json:
        print_json(found.as_json())
    else:
        rendering.console().print(rendering.dead_letter(found), soft_wrap=True)


@app.command("replay")
def replay_dead_letters(
    idents: Annotated[list[int], typer.Argument(metavar="ID...", min=0, max=dead_letters.MAX_ID)],
    config: ConfigDir = DEFAULT_DIR,
    token: Token = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Let the running gateway process dead letters again, once the rule or the store is corrected."""
    loaded = load(config)
    client = Client(loaded, token or credentials.operator_token(loaded.settings), url)
    results = client.post("/v1/operator/rejections/replay", {"ids": idents})["results"]
    if json:
        print_json(results)
    else:
        rendering.console().print(rendering.replayed(results))
    raise typer.Exit(0 if all(result["result"] == "accepted" for result in results) else 1)
