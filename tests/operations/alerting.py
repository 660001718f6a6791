"""Alerts of a test's warehouse, and an outbox that is driven by a clock of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flows.access.addresses import connect
from flows.declare import Route
from flows.operations.alerts import Alert, Condition, ended_alerts, open_alerts, report
from flows.operations.channels import Channel
from flows.operations.outbox import Outbox, WorkedOff
from tests.conftest import TestDatabase
from tests.kinds.loading import at

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass
class Desk:
    """The warehouse of a test, its outbox, and a clock that `later` moves on."""

    connection: Connection[Record]
    outbox: Outbox
    now: datetime

    async def pass_by(self, later: timedelta = timedelta()) -> WorkedOff:
        """One pass of the outbox, some time later."""
        self.now += later
        return await self.outbox.work_off(self.connection, self.now)

    async def found(self, *conditions: Condition, check: str = "a check") -> None:
        """What a check finds, and no more."""
        await report(self.connection, check, conditions)

    async def open(self) -> list[Alert]:
        return await open_alerts(self.connection)

    async def names(self) -> list[str]:
        """`name subject` of what is open."""
        return [alert.about for alert in await self.open()]

    async def ended(self) -> list[str]:
        return [alert.about for alert in await ended_alerts(self.connection, timedelta(hours=1))]


@asynccontextmanager
async def desk(
    warehouse: TestDatabase,
    routes: Sequence[Route] = (Route(["default"]),),
    channels: Mapping[str, str] | None = None,
    settle: timedelta = timedelta(),
) -> AsyncIterator[Desk]:
    """`channels`: the address of each by its name."""
    known = {name: Channel(name, url) for name, url in (channels or {}).items()}
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yield Desk(connection, Outbox(routes, known.get, settle), datetime.now(UTC) + timedelta(seconds=1))


def condition(subject: str = "shop.baskets", name: str = "late", severity: str = "error", **facts: str) -> Condition:
    """Some condition."""
    what = facts.pop("what", "two hours old")
    return Condition(name, subject, severity, what, "wait, or run it", **facts)
