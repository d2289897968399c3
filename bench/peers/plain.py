"""A script from MQTT to InfluxDB, as written in an afternoon: aiomqtt, pydantic, influxdb-client's Point.

python bench/peers/plain.py BROKER_PORT INFLUXDB_URL ORG TOKEN BUCKET
"""

import asyncio
import sys
import time

import aiomqtt
from influxdb_client import Point
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.client.write_api_async import WriteApiAsync
from pydantic import BaseModel, Field, ValidationError

BATCH = 1000


class Climate(BaseModel):
    sequence: float
    f01: float = Field(ge=-40, le=125)


def point(message: aiomqtt.Message) -> Point:
    _, startup, device, measurement = message.topic.value.split("/")
    reading = Climate.model_validate_json(bytes(message.payload))
    made = Point(measurement).tag("startup", startup).tag("device", device).time(time.time_ns())
    return made.field("sequence", reading.sequence).field("f01", reading.f01)


async def flush(points: list[Point], writes: WriteApiAsync, bucket: str) -> None:
    batch = points.copy()
    points.clear()
    if batch:
        await writes.write(bucket, record=batch)


async def every_second(points: list[Point], writes: WriteApiAsync, bucket: str) -> None:
    while True:
        await asyncio.sleep(1)
        await flush(points, writes, bucket)


async def main(port: str, url: str, org: str, token: str, bucket: str) -> None:
    points: list[Point] = []
    async with (
        InfluxDBClientAsync(url, token, org) as influx,
        aiomqtt.Client("127.0.0.1", int(port), identifier="plain", clean_session=False) as broker,
        asyncio.TaskGroup() as tasks,
    ):
        writes = influx.write_api()
        await broker.subscribe("testbed/#", qos=1)
        tasks.create_task(every_second(points, writes, bucket))
        async for message in broker.messages:
            try:
                points.append(point(message))
            except ValidationError as error:
                print(message.topic, error)
            if len(points) >= BATCH:
                await flush(points, writes, bucket)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
