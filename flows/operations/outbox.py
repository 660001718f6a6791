"""The outbox: what is sent is written down first, in the transaction that decides it, and sent until it is accepted.

transitions of alerts → incidents, one message an event of an incident and channel → sent, with growing delays

Several processes may call `work_off`; one at a time does the work. A process that dies between sending and noting it
sends once more: receivers know a message by its id.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.route import Route
from flows.operations.channels import DEFAULT, Channel, find_channel
from flows.operations.sending import send_due
from flows.operations.writing import Writer
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
#: How long an alert must last before it is sent: what ends by itself wakes nobody, and what follows from it is there.
SETTLE = timedelta(seconds=30)
_LOCK = "hashtextextended('medallion outbox', 0)"


@dataclass(frozen=True, slots=True)
class WorkedOff:
    """What a pass did: messages written, sent, and not accepted."""

    written: int = 0
    sent: int = 0
    refused: int = 0


@dataclass(slots=True)
class Outbox:
    """The outbox with its routes. `look_up` finds a channel by name; None if it has no address."""

    routes: Sequence[Route]
    look_up: Callable[[str], Channel | None] = find_channel
    settle: timedelta = SETTLE
    _writer: Writer = field(init=False)
    _known: dict[str, Channel] = field(default_factory=dict, init=False)
    _pauses: dict[str, datetime] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._writer = Writer(self.routes, self.settle)

    async def work_off(self, connection: Connection[Record], now: datetime | None = None) -> WorkedOff:
        """Write the messages of what has changed, and send those that are due. `now` is the warehouse's clock.

        Nothing is done while another process does it.
        """
        async with _alone(connection) as alone:
            if not alone:
                return WorkedOff()
            moment: datetime = now or await connection.fetchval("select clock_timestamp()")
            written = 0
            # Before the transaction: a store that is slow to answer must not hold its locks.
            self._writer.without_address = frozenset() if self._default_has_address() else frozenset({DEFAULT})
            try:
                written = await self._writer.write(connection, moment)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                _log.info("loads that commit use the alerts now; the next pass writes the messages")
            sent, refused = await send_due(connection, moment, self._find, self._pauses)
        return WorkedOff(written, sent, refused)

    def _find(self, name: str) -> Channel | None:
        """The channel. Where its address is kept may be what fails: then the one that was known."""
        try:
            channel = self.look_up(name)
        except MedallionError:
            if name not in self._known:
                raise
            return self._known[name]
        if channel is not None:
            self._known[name] = channel
        return channel

    def _default_has_address(self) -> bool:
        # A clone without a channel collects no messages. One that a team declared and did not configure is an alert.
        try:
            return self._find(DEFAULT) is not None
        except MedallionError:
            return True


@asynccontextmanager
async def _alone(connection: Connection[Record]) -> AsyncIterator[bool]:
    alone = await connection.fetchval(f"select pg_try_advisory_lock({_LOCK})")
    try:
        yield alone
    finally:
        if alone and not connection.is_closed():
            await connection.execute(f"select pg_advisory_unlock({_LOCK})")
