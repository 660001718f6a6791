"""Leases of slots of global concurrency limits, at Prefect's server.

A slot in use is held by a lease that is renewed. A killed process renews nothing, and the server frees its slots.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

#: The slots of a killed process are freed after this time; Prefect allows no less.
LEASE_SECONDS = 60.0
#: A server that does not respond must not delay the end of a run; its leases end without us.
RELEASE_SECONDS = 10.0

_LOCKED, _GONE = 423, (404, 410)


@dataclass(slots=True, eq=False)
class Slot:
    """One slot of each limit. Without a lease: no limit of these names exists, so nothing is counted."""

    lease: UUID | None
    renewed: float = field(default_factory=time.monotonic)
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Concurrency limits by name, of which one slot each is leased at once."""

    names: tuple[str, ...]
    client: PrefectClient

    async def acquire(self) -> Slot | None:
        """A slot, or None: all are in use."""
        try:
            response = await self.client.increment_concurrency_slots_with_lease(
                list(self.names), slots=1, mode="concurrency", lease_duration=LEASE_SECONDS
            )
        except httpx.HTTPStatusError as problem:
            if problem.response.status_code == _LOCKED:
                return None
            raise
        granted = response.json()
        if not granted["limits"]:
            _warn("the concurrency limits %s do not exist: loads are not limited", self)
            return Slot(None)
        return Slot(UUID(granted["lease_id"]))

    async def give_back(self, slot: Slot) -> None:
        """Free the slot. If the server does not respond, its lease ends."""
        if slot.lease is None or slot.is_lost:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self.client.release_concurrency_slots_with_lease(slot.lease)
        except Exception as problem:
            what = "a slot of %s could not be given back (%s): the server frees it within %.0f s"
            _warn(what, self, type(problem).__name__, LEASE_SECONDS)

    async def renew(self, slot: Slot) -> None:
        """Renew its lease; `is_lost` if the server no longer counts it, so that the limit may be exceeded."""
        if slot.lease is None or slot.is_lost:
            return
        try:
            await self.client.renew_concurrency_lease(slot.lease, lease_duration=LEASE_SECONDS)
            slot.renewed = time.monotonic()
        except Exception as problem:
            gone = isinstance(problem, httpx.HTTPStatusError) and problem.response.status_code in _GONE
            if gone or time.monotonic() > slot.renewed + LEASE_SECONDS:
                slot.is_lost = True
                _warn("the server no longer counts a slot of %s: until this table ends, one more may load", self)

    def __str__(self) -> str:
        """`source-shop and warehouse`."""
        return " and ".join(self.names)


def _warn(message: str, *values: object) -> None:
    try:
        get_run_logger().warning(message, *values)
    except MissingContextError:
        get_logger("concurrency").warning(message, *values)
