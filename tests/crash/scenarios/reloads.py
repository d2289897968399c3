"""Reloads, changes of the number of workers, workers that hang."""

from __future__ import annotations

import os
import signal
from typing import Any

from ruamel.yaml import YAML

from tests.crash.bed import Bed
from tests.crash.points import Point
from tests.crash.scenario import crash
from tests.crash.shape import BOTH, EVERY, PLAIN, WORKERS, WORKERS_INFLUX
from tests.servers import eventually


def change(bed: Bed, number: int) -> None:
    """Change the rules of acme: a further field, a further measurement."""
    path = bed.gateway.config / "startups" / "acme.yaml"
    document: Any = YAML().load(path)
    topics = document["topics"]
    topics["climate"]["fields"][f"more{number}"] = {"type": "float", "required": False}
    topics[f"other{number}"] = {"topic": f"testbed/acme/{{device}}/other{number}", "fields": {"x": {"type": "float"}}}
    new = path.with_suffix(".new")
    YAML().dump(document, new)
    new.replace(path)


@crash("the configuration changes again and again under load", shapes=EVERY)
async def reload(bed: Bed) -> None:
    for number in range(bed.some(6)):
        change(bed, number)
        await bed.lasts(1)


@crash("kill -9 within a reload", point=Point("gateway.runtime.engine:Engine.use", "after", (1, 1)), kills=2)
async def kill_within_reload(bed: Bed) -> None:
    await _reloads(bed, 2)


@crash(
    "kill -9 of a worker within a reload",
    point=Point("gateway.runtime.engine:Engine.use", "before", (1, 1)),
    kills=2,
    shapes=(WORKERS,),
)
async def kill_worker_within_reload(bed: Bed) -> None:
    await _reloads(bed, 2)


async def _reloads(bed: Bed, kills: int) -> None:
    for number in range(kills):
        change(bed, number)
        await bed.point(number + 1)
        await bed.connected()


@crash("a file whose name is not UTF-8 lies in the directory of the startups", shapes=BOTH, short=True)
async def file_name_not_utf8(bed: Bed) -> None:
    strange = os.fsencode(bed.gateway.config / "startups") + b"/\xff\xfe.yaml"
    with open(strange, "wb") as file:  # noqa: PTH123  # pathlib has no paths of bytes
        file.write(b"name: strange\n")
    await bed.lasts(4)
    change(bed, 0)
    await bed.lasts(2)
    os.unlink(strange)  # noqa: PTH108
    change(bed, 1)


@crash("the number of workers changes under load: 1, 3, 2, 1", shapes=(PLAIN, WORKERS_INFLUX))
async def workers_changed(bed: Bed) -> None:
    for workers in (3, 2, 1):
        await bed.fleet.more(500)
        await bed.keeper.stop()
        bed.keeper.options = ["--workers", str(workers)] if workers > 1 else []
        bed.keeper.start()
        await bed.connected()


@crash("a worker hangs (SIGSTOP): another takes its place", shapes=(WORKERS, WORKERS_INFLUX))
async def worker_hangs(bed: Bed) -> None:
    pid = await bed.gateway.worker(1)
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(
            lambda: bed.gateway.workers().get(1, pid) != pid, within=90, every=0.2, says="a hung worker is replaced"
        )
    except AssertionError as error:
        os.kill(pid, signal.SIGCONT)
        bed.check(str(error)[:60], good=False)
