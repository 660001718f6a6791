"""The watch from outside: a small process that needs neither Prefect nor a run, and tells that one of them is away.

    look at the server and the warehouse → checks → ops.alerts → the outbox → ops.watches → ping

A check that fails or hangs is an alert itself, and never stops the others. While the warehouse is away, alerts cannot
be written down: what is critical is sent directly, once, to addresses that were read before.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.access.sessions import open_session
from flows.failures.diagnose import explain
from flows.operations.address_book import AddressBook
from flows.operations.alerts import Condition, report
from flows.operations.checks.check import Check, Round
from flows.operations.checks.names import OUTBOX_STUCK, WAREHOUSE_DOWN
from flows.operations.direct import Direct
from flows.operations.exporting import Ended, Exporter
from flows.operations.outbox import Outbox
from flows.operations.ping import Ping
from flows.operations.prefect_facts import PrefectReader
from flows.operations.prefect_probe import SUBJECT, PrefectProbe
from flows.operations.watch_clock import Clock, Looked, cannot_check
from flows.operations.watch_rounds import Others, record_round
from flows.state import ledger

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
#: A session of the watch waits for nothing longer than this.
_STATEMENT_MS, _LOCK_MS = 5_000, 2_000
_CONNECT_SECONDS, _REPORT_SECONDS, _OUTBOX_SECONDS = 15.0, 20.0, 60.0
_UPGRADE_SECONDS = 120.0
_STOP_SECONDS = 5.0
#: Longer than all that may take long in one.
_ROUND_SECONDS = 300.0


@dataclass(slots=True)
class Watch:
    """The watch. `prefect` is None where no server is configured: then what concerns it is not looked at.

    `once`: it makes one round, and waits for no other.
    """

    checks: Sequence[Check]
    outbox: Outbox
    direct: Direct
    book: AddressBook
    prefect: PrefectReader | None = None
    clock: Clock = field(default_factory=Clock)
    host: str = field(default_factory=socket.gethostname)
    alive: Path | None = None
    once: bool = False
    ping: Ping = field(default_factory=Ping)
    exporter: Exporter = field(default_factory=Exporter)
    _found: dict[str, list[Condition]] = field(default_factory=dict, init=False)
    _next: dict[str, float] = field(default_factory=dict, init=False)
    _reported: dict[str, list[Condition]] = field(default_factory=dict, init=False)
    _hanging: dict[str, asyncio.Task[list[Condition]]] = field(default_factory=dict, init=False)
    _session: Connection[Record] | None = field(default=None, init=False)
    #: Critical problems that alerts were raised of, since when; and of those, what the outbox has sent by now.
    _raised: dict[tuple[str, str], float] = field(default_factory=dict, init=False)
    _sent: set[tuple[str, str]] = field(default_factory=set, init=False)
    _upgraded: bool = field(default=False, init=False)
    _started_at: datetime | None = field(default=None, init=False)
    _outbox_problem: str | None = field(default=None, init=False)
    _others: Others = field(default_factory=Others, init=False)
    _probe: PrefectProbe | None = field(default=None, init=False)

    async def run(self, stop: asyncio.Event, seconds: float, lives: Callable[[], bool] = lambda: True) -> None:
        """Look every so many seconds until `stop` is set, or there is nothing to look at any more.

        Whatever fails is tried again at the next round.
        """
        stopped = asyncio.ensure_future(stop.wait())
        while not stop.is_set() and lives():
            began = time.monotonic()
            looking = asyncio.ensure_future(self.round())
            await asyncio.wait({looking, stopped}, timeout=_ROUND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            # A message that is being sent is noted as sent.
            await asyncio.wait({looking}, timeout=_STOP_SECONDS)
            if looking.cancel():
                _log.error("a round did not end")
                await asyncio.wait({looking}, timeout=_STOP_SECONDS)
                continue
            if (problem := looking.exception()) is not None:  # a bug; a watch that ends is worse than one that stumbles
                _log.error("a round failed: unexpected %s", type(problem).__name__)
            self._mark()
            await asyncio.wait({stopped}, timeout=max(0.0, seconds - (time.monotonic() - began)))
        stopped.cancel()

    def _mark(self) -> None:
        """The end of a round in a file, for whoever restarts a watch that hangs."""
        if self.alive is not None:
            with suppress(OSError):
                self.alive.parent.mkdir(parents=True, exist_ok=True)
                self.alive.touch()

    async def round(self) -> Looked:
        """Look at everything that is due, once."""
        now, began = self.clock.now(), self.clock.elapsed()
        self._started_at = self._started_at or now
        await self.book.read_channels(now)
        at = Round(now, self.clock.elapsed(), urls=lambda: self.book.urls(now))
        at = await self._ask_prefect(at)
        away, cannot = await self._with_warehouse(at)
        if away is not None:
            self._upgraded = False
        await self._tell_directly(away, at)
        good = away is None and self._outbox_problem is None
        if good:
            await self.ping.send()
        if away is not None:
            _log.warning("the warehouse does not answer: %s", away)
        await self._export(at, began, away, len(cannot))
        return Looked(good, sum(map(len, self._found.values())), tuple(each.subject for each in cannot), away)

    async def _export(self, at: Round, began: float, away: str | None, failed_checks: int) -> None:
        now, elapsed = self.clock.now().timestamp(), self.clock.elapsed()
        prefect = None if self.prefect is None else at.prefect or False
        try:
            await self.exporter.show(Ended(now, elapsed - began, away is None, failed_checks, prefect), elapsed)
        except Exception as problem:  # a bug; alerts do not depend on metrics
            _log.error("metrics were not exported: unexpected %s", type(problem).__name__)

    async def close(self) -> None:
        """Close connections."""
        await self.exporter.close()
        if self.prefect is not None:
            await self.prefect.api.close()
        await self.ping.close()

    async def _ask_prefect(self, at: Round) -> Round:
        if self.prefect is None:
            return at
        self._probe = self._probe or PrefectProbe(self.prefect)
        facts = await self._probe.look(at.now)
        self._found[SUBJECT] = self._probe.found
        return at if facts is None else replace(at, prefect=facts)

    async def _with_warehouse(self, at: Round) -> tuple[str | None, list[Condition]]:
        """Check, write down what was found, send. Returns why the warehouse is of no use, if it is of none."""
        cannot: list[Condition] = []
        try:
            try:
                at = await self._open(at)
            except Exception as problem:
                return explain(problem, "warehouse").what, await self._check(at)
            try:
                cannot = await self._check(at)
                assert self._session is not None
                assert self._started_at is not None
                async with asyncio.timeout(_REPORT_SECONDS):
                    leader = await self._others.leader(self._session, self.host, self._started_at, at.elapsed)
                    if leader is None:
                        await self._report(self._session, cannot, at.now)
            except Exception as problem:
                return explain(problem, "warehouse").what, cannot
            if leader is None:
                await self._work_off(self._session)
            else:
                self._reported.clear()  # if it takes over, it resolves what the other one had found
                self._outbox_problem = None
            await self.exporter.measure(self._session, self.clock.elapsed)
            return None, cannot
        finally:
            self._leave()

    async def _open(self, at: Round) -> Round:
        """With a session of the warehouse, in place of a former one."""
        self._leave()
        async with asyncio.timeout(_CONNECT_SECONDS):
            self._session = await open_session(await self.book.warehouse(at.now), "warehouse", "medallion watch")
        if not self._upgraded:
            async with asyncio.timeout(_UPGRADE_SECONDS):
                await ledger.ensure_schema(self._session)
            self._upgraded = True
        async with asyncio.timeout(_CONNECT_SECONDS):
            await self._session.execute(f"set statement_timeout = {_STATEMENT_MS}; set lock_timeout = {_LOCK_MS}")
        return replace(at, warehouse=self._session)

    def _leave(self) -> None:
        # At once: a server that hangs would keep the watch waiting.
        if self._session is not None:
            self._session.terminate()
            self._session = None

    async def _check(self, at: Round) -> list[Condition]:
        """Make the checks that are due and possible; returns those that could not be made.

        Raises what `_open` raises, if a check broke the session and there is no other.
        """
        cannot = []
        for check in self.checks:
            needs_away = ("warehouse" in check.needs and at.warehouse is None) or (
                "prefect" in check.needs and at.prefect is None
            )
            if needs_away or at.elapsed < self._next.get(check.name, at.elapsed):
                continue
            try:
                self._found[check.name] = [*await self._look(check, at)]
                self._next[check.name] = at.elapsed + check.every.total_seconds()
            except TimeoutError:
                cannot.append(cannot_check(check, f"it did not end within {check.patience:.0f} s"))
                if at.warehouse is not None:  # its query may still run
                    at = await self._open(at)
            except Exception as problem:
                cannot.append(cannot_check(check, explain(problem, check.name).what))
                if at.warehouse is not None and at.warehouse.is_closed():
                    at = await self._open(at)
        return cannot

    async def _look(self, check: Check, at: Round) -> list[Condition]:
        former = self._hanging.get(check.name)
        if former is not None and not former.done():
            raise TimeoutError  # one that cannot be stopped, such as a thread, is not started once more
        task = self._hanging[check.name] = asyncio.ensure_future(check.look(at))
        await asyncio.wait({task}, timeout=check.patience)
        if task.done():
            del self._hanging[check.name]
            return task.result()
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        raise TimeoutError

    async def _report(self, connection: Connection[Record], cannot: Sequence[Condition], now: datetime) -> None:
        known = self.direct.since(WAREHOUSE_DOWN, "warehouse")
        if known is not None:  # for the record; everybody was told
            what = f"it did not answer from {known:%Y-%m-%d %H:%M:%S} to {now:%H:%M:%S} UTC"
            gone = Condition(WAREHOUSE_DOWN, "warehouse", "critical", what, "read its log")
            async with connection.transaction():
                await report(connection, "warehouse", [gone])
                await report(connection, "warehouse", [])
        failed = {each.subject.removeprefix("check ") for each in cannot}
        found = {name: each for name, each in self._found.items() if name not in failed}
        decided = self.once or self._others.is_decided
        for name, each in {**found, "watch": [*cannot, *self.ping.found(), *self.exporter.found()]}.items():
            if each or self._reported.get(name) != []:
                await report(connection, name, each, resolves=decided)
            if decided:
                self._reported[name] = each
        assert self._started_at is not None
        await record_round(connection, self.host, self._started_at, (self.clock.now() - now).total_seconds())

    async def _work_off(self, connection: Connection[Record]) -> None:
        try:
            async with asyncio.timeout(_OUTBOX_SECONDS):
                await self.outbox.work_off(connection)
            self._outbox_problem = None
        except TimeoutError:
            self._outbox_problem = f"sending did not end within {_OUTBOX_SECONDS:.0f} s"
        except Exception as problem:
            self._outbox_problem = explain(problem, "outbox").what
        if self._outbox_problem is not None:
            _log.error("the outbox does not move: %s", self._outbox_problem)

    async def _tell_directly(self, away: str | None, at: Round) -> None:
        present, elsewhere = [], [each for found in self._found.values() for each in found]
        critical = {(each.name, each.subject) for each in elsewhere if each.severity == "critical"}
        if away is None:
            self._raised = {key: self._raised.get(key, at.elapsed) for key in critical}
            if self._outbox_problem is None:
                settle = self.outbox.settle.total_seconds()
                self._sent |= {key for key, since in self._raised.items() if at.elapsed - since > settle}
        self._sent &= critical
        if self._outbox_problem is not None and away is None:
            fix = "read the log of `medallion watch`; `medallion alerts list` shows what nobody was told of"
            present.append(Condition(OUTBOX_STUCK, "outbox", "critical", self._outbox_problem, fix))
        if away is not None:
            fix = "see that its server is up and reachable, and that its disk is not full; loads resume by themselves"
            present.append(Condition(WAREHOUSE_DOWN, "warehouse", "critical", away, fix))
            present += [
                each
                for each in elsewhere
                if each.severity == "critical" and (each.name, each.subject) not in self._sent
            ]
            elsewhere = []
        await self.direct.tell(present, elsewhere, at.now)
