"""Faults under load, and what the gateway keeps: `make crash`.

A scenario is a function in a file of `scenarios/`, found automatically:

    @crash("kill -9 at random moments", shapes=EVERY)
    async def kill_at_random(bed: Bed) -> None:
        for _ in range(bed.some(5)):
            await bed.fleet.more(bed.chance.randint(100, 900))
            bed.keeper.kill()

Devices publish while it runs. What stands in it is the fault; afterwards the bed ends all faults, lets the devices
publish some more and the gateway recover, and reads everything back over the HTTP API. Each run has servers of its own:
Mosquitto with persistence, `gateway run` as a process that is started again whenever it ends, influxd where the shape
has it. A shape is the number of workers, the MQTT version and the store. All chance comes from the seed.

The truth is what the broker acknowledged to the devices: nothing of it may be lost, whatever happens to the gateway.
"""
