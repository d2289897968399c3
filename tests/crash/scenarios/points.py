"""Kill points: kill -9 in or beside one function of the gateway, at a call chosen by the seed."""

from __future__ import annotations

from tests.crash.bed import Bed
from tests.crash.points import Point
from tests.crash.scenario import crash
from tests.crash.shape import INFLUX, PLAIN, WORKERS, WORKERS_INFLUX

KILLS = 3
BOTH = (PLAIN, WORKERS)


async def killed(bed: Bed) -> None:
    """Publish until the gateway was killed at its point as often as the scenario says."""
    await bed.point(KILLS)
    await bed.connected()


def at(about: str, name: str, point: Point, **options: object) -> None:
    """Register a scenario that kills the gateway at a point."""
    crash(about, name=f"kill-{name}", point=point, kills=KILLS, **options)(killed)  # type: ignore[arg-type]


COMMIT = "gateway.state.group_commit:commit"
SORT = "gateway.state.journal:_sort"
SETTLE = "gateway.stores.lane:Lane._settle"
EVICT = "gateway.state.dead_letters:_make_room"
FEW_LETTERS = {"dead_letters": {"max_count": 4000}}

at("kill -9 before a commit of the journal", "before-commit", Point(COMMIT, "before"), short=True)
at("kill -9 within a commit of the journal", "within-commit", Point(COMMIT, "within"), shapes=BOTH)
at(
    "kill -9 between a commit and its acknowledgements",
    "between-commit-and-acknowledgement",
    Point(COMMIT, "after"),
    shapes=BOTH,
    short=True,
)
at(
    "kill -9 when a part of a round is acknowledged",
    "within-acknowledgements",
    Point("gateway.mqtt.mqtt5:Mqtt5Session.ack", "after"),
)
at(
    "kill -9 when a batch is acknowledged, over MQTT 3.1.1",
    "within-acknowledgements-mqtt311",
    Point("gateway.mqtt.mqtt311:PahoSession.ack", "after"),
    shapes=(WORKERS,),
)
at(
    "kill -9 within a write to the SQLite store",
    "within-store-write",
    Point("gateway.stores.sqlite_writer:Writer.write", "within"),
)
at(
    "kill -9 within a write to InfluxDB",
    "within-store-write-influxdb",
    Point("gateway.stores.influxdb:InfluxDBStore.write", "within", longest=0.02),
    shapes=(INFLUX, WORKERS_INFLUX),
)
at(
    "kill -9 when a batch is stored and still in the journal",
    "between-store-and-journal",
    Point(SETTLE, "before"),
    shapes=(PLAIN, WORKERS_INFLUX),
    short=True,
)
at("kill -9 when a batch has just left the journal", "after-settle", Point(SETTLE, "after"))
at("kill -9 within the sorting of the intake", "within-sort", Point(SORT, "within"), shapes=BOTH)
at("kill -9 when the intake is sorted and not committed", "after-sort", Point(SORT, "after"))
at(
    "kill -9 when the devices are saved",
    "within-registry-save",
    Point("gateway.state.devices:DeviceRegistry.save", "within", (1, 3)),
)
at("kill -9 when an old dead letter makes room", "within-eviction", Point(EVICT, "after"))
