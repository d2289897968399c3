"""Attacks by one startup, or by somebody without an account, and what another startup notices: `make attack`.

A scenario is a function in a file of `scenarios/`, found automatically:

    @attack("60 KB arrays over the quota, 6,000 a second")
    async def arrays_6000(bed: Bed) -> AsyncIterator[None]:
        async with bed.flood(ARRAY, rate=6_000):
            yield

Before the yield stands what has happened, or happens, when the victim publishes; after it, what is checked or undone.
Each scenario has servers of its own: Mosquitto as docker-compose.yml configures it, with the accounts that
`gateway provision apply` creates, and `gateway run` as a process. The victim publishes twice, first alone (the
control), then under attack. Attackers are processes that end by themselves, bounded in seconds and bytes.
"""
