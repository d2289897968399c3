"""All sessions of a gateway with its broker: one for each startup, and one that publishes.

A session of its own gives each startup a queue, a Receive Maximum and bounds of its own at the broker, so that nothing
that one startup's devices send can delay or drop another's messages, or fill its queue. Where a broker grants an
account only one connection, `mqtt.sessions: one` has a single session for everything.

Invariants:
- A session that is no longer wanted first receives what the broker still holds for it, then ends. One that another
  worker or host has from now on is left to it, once all that it has brought is acknowledged: the broker keeps it. The
  other one waits a moment before it takes it, so that nothing is delivered to both.
- A source is in `ready` exactly while it has something to take and is not held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from gateway.errors import SessionError
from gateway.logs import get_logger
from gateway.mqtt.auto import Version, choose
from gateway.mqtt.link import BrokerLink
from gateway.mqtt.session import NOT_YET, Access, Session, SessionSpec, SessionState, Source, combined
from gateway.mqtt.session_plan import ALL, SessionPlan, is_shared, other_form
from gateway.mqtt.shared_subscriptions import expect_shared_subscriptions
from gateway.mqtt.unrouted import UnroutedLook

PUBLISHER = "_gateway"
LOOK = "_look"
IDLE_AFTER = 3.0
"""Seconds without a message after which the broker holds nothing more for a session."""
IDLE_LOOKS = 10
"""Looks in that time. Each must find it idle: that time has passed may only mean that the event loop was busy."""
LEAVE_WITHIN = 5.0
"""Seconds that a session which is left may take until all that it has brought is acknowledged."""
LEAVE_LOOK_EVERY = 0.01
TAKE_AFTER = 1.0
"""Seconds before a session that another worker or host had is connected here: that one is letting go of it."""
ANNOUNCE_EVERY = 0.05
RECONSIDER_EVERY = 30.0
"""Seconds between looks whether the broker has to be asked again for the version that it speaks."""

log = get_logger(__name__)


class Sessions:
    """Sessions by name, as `plan` says. `known` are the filters that each may have at the broker from an earlier run.
    Each `worker` of each `host` has a session that publishes; `host` None: there is only one."""

    def __init__(
        self,
        access: Access,
        plan: SessionPlan,
        known: Mapping[str, Sequence[str]],
        *,
        worker: int = 0,
        host: str | None = None,
    ) -> None:
        self.ready: dict[str, Source] = {}
        self._known = {name: list(filters) for name, filters in known.items() if name not in plan.elsewhere}
        self._access = access
        self._host = host
        self._publisher = PUBLISHER + (f"-{worker}" if worker else "") + (f".{host}" if host else "")
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._taken_over: set[str] = set()
        self._sessions: dict[str, Session] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._arrivals: dict[str, int] = {}
        self._held: set[str] = set()
        self._look: UnroutedLook | None = None
        self._looking: asyncio.Task[None] | None = None
        self._probe = BrokerLink(access.broker, "5 or 3.1.1", access.connecting, "")
        self._version: Version | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._news = asyncio.Event()
        self._has_begun = False
        self._is_stopped = False
        self._plan = plan
        self._want(plan.wanted)

    # ------------------------------------------------------------------ which sessions there are

    async def run(self) -> None:
        """Keep every session connected, until cancelled; then disconnect them all."""
        while self._version is None:
            try:
                self._version = await choose(self._access)
            except SessionError as error:
                self._probe.failed(error)
                await self._probe.pause()
        async with asyncio.TaskGroup() as self._tasks:
            if ALL not in self._wanted:
                self._open(self._publisher)
            for name in self._wanted:
                self._open(name)
            for name in [name for name in self._known if name not in self._wanted]:
                self._retire(name)
            self._look_or_not()
            self._tasks.create_task(self._announce(), name="sessions-announce")
            if self._access.settings.protocol == "auto":
                self._tasks.create_task(self._reconsider(), name="sessions-version")

    async def _announce(self) -> None:
        """Log when all sessions are connected for the first time, or have a problem of their own: one line, however
        many there are."""
        while self.problem:
            await asyncio.sleep(ANNOUNCE_EVERY)
            self._has_begun = NOT_YET not in self.problems.values()
        connected = sum(state.connected for state in self.states.values())
        log.info("broker connected", broker=str(self._access.broker), sessions=connected)

    async def _reconsider(self) -> None:
        """Ask the broker again for its version where it was not certain, and after connections were lost: it was slow
        at the start, or is another one now. The sessions go over to the version that it speaks."""
        seen = -1
        while True:
            await asyncio.sleep(RECONSIDER_EVERY)
            state, version = self.state, self._version
            if version is None or (version.is_certain and state.connected and state.connections == seen):
                continue
            seen = state.connections
            with suppress(SessionError):  # the sessions themselves report it
                found = await choose(self._access)
                if found.is_certain:
                    self._version = found
                if found.is_certain and found.speaks_5 != version.speaks_5:
                    log.warning("the broker speaks another version of MQTT", mqtt="5" if found.speaks_5 else "3.1.1")
                    self._open_again()

    def _open_again(self) -> None:
        """Open every session anew; the broker keeps what it holds for each."""
        retiring, leaving = set(self._retiring), set(self._leaving)
        for name in list(self._sessions):
            self._disconnect(name)
            if name not in retiring | leaving:
                self._open(name)
        for name in retiring:
            self._retire(name)
        self._end_look()
        self._look_or_not()

    def use(self, plan: SessionPlan) -> None:
        """Want the sessions of this plan, and no others. Those that stay are not disturbed."""
        for name, filters in plan.elsewhere.items():
            self._leave(name, filters)
        before, was = self._wanted, self._plan
        elsewhere = was.elsewhere
        self._plan = plan
        self._want(plan.wanted)
        if self._tasks is None:
            return
        self._look_or_not()
        for name in before.keys() - self._wanted.keys():
            self._retire(name)
        for name, filters in self._wanted.items():
            if retiring := self._retiring.pop(name, None):
                retiring.cancel()
            is_same = _are_shared(filters) == _are_shared(before.get(name, ())) and plan.max_packet == was.max_packet
            if name in self._running and name not in self._leaving and is_same:
                self._sessions[name].subscribe(filters)
            else:
                self._disconnect(name)
                self._open(name, after=TAKE_AFTER if name in elsewhere else 0)

    def _look_or_not(self) -> None:
        """Start or stop looking for messages of no startup, as the plan says."""
        if self._look is not None and not self._plan.looks:
            self._end_look()
        elif self._look is None and self._plan.looks and self._tasks is not None and self._version is not None:
            self._look = UnroutedLook(self._client_id(LOOK), self._plan.slugs, lambda: self._fill(LOOK))
            looking = self._look.run(self._version.make, self._access)
            self._looking = self._tasks.create_task(looking, name="session-look")
        if self._look is not None:
            self._look.slugs = self._plan.slugs

    def _end_look(self) -> None:
        self._look = None
        self.ready.pop(LOOK, None)
        if self._looking is not None:
            self._looking.cancel()

    def _want(self, wanted: Mapping[str, Sequence[str]]) -> None:
        self._wanted = {name: tuple(filters) for name, filters in wanted.items()}
        self._taken_over |= self._wanted.keys() - self._known.keys()
        for name, filters in self._wanted.items():
            known = self._known.setdefault(name, [])
            known += [one for one in filters if one not in known]

    def _open(self, name: str, after: float = 0) -> None:
        """Open a session after some seconds; the filters that it may have and no longer wants are dropped."""
        if self._tasks is None or self._version is None:
            return
        filters = self._wanted.get(name, ())
        unwanted = [one for one in self._known.get(name, ()) if one not in filters]
        if self._host is not None and name in self._taken_over:
            unwanted += other_form(filters, self._access.settings.client_id)
        spec = SessionSpec(
            self._client_id(name),
            filters,
            tuple(dict.fromkeys(unwanted)),
            kept=name != self._publisher,
            check=partial(expect_shared_subscriptions, self._access) if _are_shared(filters) else None,
            max_packet=self._plan.max_packet,
        )
        session = self._sessions[name] = self._version.make(self._access, spec, lambda: self._fill(name))
        self._running[name] = self._tasks.create_task(_run(session, after), name=f"session-{name}")

    def _retire(self, name: str) -> None:
        """End a session that is no longer wanted, once it has received what the broker holds for it."""
        if self._tasks is None:
            return
        if name in self._running:
            self._sessions[name].subscribe(())
        else:
            self._open(name)
        self._retiring[name] = self._tasks.create_task(self._end_when_idle(name), name=f"session-{name}-retires")

    def _leave(self, name: str, filters: Sequence[str]) -> None:
        """Leave a session to another worker or host, if there is one here, without the filters that it does not have
        there. The broker keeps it."""
        wanted = self._wanted.pop(name, ())
        self._known.pop(name, None)
        session = self._sessions.get(name)
        if session is None or self._tasks is None or name in self._leaving:
            return
        if retiring := self._retiring.pop(name, None):
            retiring.cancel()
        either = {*filters, *other_form(filters, self._access.settings.client_id)}
        session.subscribe([one for one in wanted if one in either])
        session.stop()
        self._leaving[name] = self._tasks.create_task(self._let_go(name, session), name=f"session-{name}-leaves")

    async def _let_go(self, name: str, session: Session) -> None:
        """Disconnect a session once nothing that it has brought is under way: what is not acknowledged then, the other
        worker or host receives again. It must not connect again, should the other one already have it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN):
                while session.state.connected and not session.is_settled:  # noqa: ASYNC110  # acks come from ingest
                    await asyncio.sleep(LEAVE_LOOK_EVERY)
        log.info(
            "session left",
            client_id=self._client_id(name),
            next="another host or worker has it from now on",
            under_way=not session.is_settled,
        )
        self._leaving.pop(name)
        self._disconnect(name)

    def _disconnect(self, name: str) -> None:
        """Disconnect a session, if there is one. The broker keeps it."""
        for of_task in (self._retiring, self._leaving, self._running):
            if task := of_task.pop(name, None):
                task.cancel()
        for of_name in (self._sessions, self.ready, self._arrivals):
            of_name.pop(name, None)

    async def _end_when_idle(self, name: str) -> None:
        session = self._sessions[name]
        seen, quiet = (-1, -1), 0
        while quiet < IDLE_LOOKS:
            await asyncio.sleep(IDLE_AFTER / IDLE_LOOKS)
            now = (self._arrivals.get(name, 0), session.state.connections)
            is_quiet = now == seen and session.is_idle and name not in self.ready and name not in self._held
            seen, quiet = now, quiet + 1 if is_quiet else 0
        session.forget()
        running = self._running.pop(name)
        running.cancel()
        await asyncio.wait((running,))
        for of_name in (self._sessions, self._retiring, self._arrivals, self._known):
            of_name.pop(name, None)
        log.info("session ended", client_id=self._client_id(name))

    def _client_id(self, name: str) -> str:
        client_id = self._access.settings.client_id
        return client_id if name == ALL else f"{client_id}.{name}"

    def filters(self) -> dict[str, list[str]]:
        """Return the filters that each session may have at the broker, to be remembered."""
        return {name: list(filters) for name, filters in self._known.items()}

    @property
    def is_retiring(self) -> bool:
        """Whether sessions are still to be ended, or left."""
        return self._tasks is None or bool(self._retiring or self._leaving)

    # ------------------------------------------------------------------ what arrives

    async def arrived(self) -> bool:
        """Wait until a source is ready; False once `stop` was called and none is."""
        while not self.ready:
            if self._is_stopped:
                return False
            self._news.clear()
            await self._news.wait()
        return True

    def hold(self, name: str, seconds: float) -> None:
        """Take a source out of `ready` for a while, and leave the rest of its messages to the broker meanwhile."""
        del self.ready[name]
        self._held.add(name)
        asyncio.get_running_loop().call_later(seconds, self._fill, name)

    def _fill(self, name: str) -> None:
        self._held.discard(name)
        source = self._look if name == LOOK else self._sessions.get(name)
        if source is not None:
            self._arrivals[name] = self._arrivals.get(name, 0) + 1
            self.ready[name] = source
            self._news.set()

    def stop(self) -> None:
        """Receive no more messages; what has arrived is still to be taken."""
        self._is_stopped = True
        for session in self._sessions.values():
            session.stop()
        self._news.set()

    # ------------------------------------------------------------------ what is sent, and how it is

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting. False where it had to be dropped: not connected, or too many wait."""
        session = self._sessions.get(self._publisher) or self._sessions.get(ALL)
        return session is not None and session.publish(topic, payload, qos=qos)

    @property
    def problem(self) -> str:
        """Problem of all startups together: nobody can publish, or no session has been tried yet."""
        if self._tasks is None:
            return self._probe.state.problem
        publisher = self._sessions.get(self._publisher) or self._sessions.get(ALL)
        if publisher is not None and publisher.state.problem:
            return publisher.state.problem
        return "" if self._has_begun else NOT_YET

    @property
    def problems(self) -> Mapping[str, str]:
        """Problem of each startup's session; empty while it works."""
        return {
            name: self._sessions[name].state.problem if name in self._sessions else NOT_YET
            for name in self._wanted
            if name != ALL
        }

    @property
    def states(self) -> Mapping[str, SessionState]:
        return {name: session.state for name, session in self._sessions.items()}

    @property
    def state(self) -> SessionState:
        """The state of all sessions together. Its problem names the first of those that are not connected."""
        if self._tasks is None:
            return self._probe.state
        return combined(self.states)


async def _run(session: Session, after: float) -> None:
    await asyncio.sleep(after)
    await session.run()


def _are_shared(filters: Sequence[str]) -> bool:
    return any(map(is_shared, filters))
