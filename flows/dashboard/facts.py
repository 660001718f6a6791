"""What takes more than a query, remembered for some seconds: clocks, and the models of the newest build.

However many people look, each is read once in that time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from flows.dashboard.reading import Reader, bounded_loader
from flows.declare.promises import freshness_of
from flows.models.manifest import Manifest
from flows.operations.affected import Dependencies
from flows.operations.attainment import Attainment, attainments
from flows.operations.freshness import Clocks, Reading
from flows.state import dbt_manifests

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Known = TypeVar("Known")
#: Seconds. A table is late for minutes before anybody is told.
_CLOCKS_KEPT, _MODELS_KEPT = 15.0, 30.0


@dataclass(slots=True)
class Remembered(Generic[Known]):
    """Reads once, and again when that is some seconds old. An error is not remembered."""

    read: Callable[[], Awaitable[Known]]
    seconds: float
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _known: tuple[float, Known] | None = field(default=None, init=False)

    async def __call__(self) -> Known:
        """What is known, not older than that."""
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > self.seconds:
                self._known = (time.monotonic(), await self.read())
            return self._known[1]

    def forget(self) -> None:
        """Read it again next time."""
        self._known = None


@dataclass(frozen=True, slots=True)
class Models:
    """The newest full build: its manifest, and what is built from what. Without a build, neither."""

    manifest: Manifest | None
    dependencies: Dependencies


@dataclass(slots=True)
class Facts:
    """Of one dashboard. `clocks` are those of the declared sources; others are for tests."""

    reader: Reader
    clocks: Clocks = field(default_factory=Clocks)
    readings: Remembered[list[Reading]] = field(init=False)
    kept: Remembered[list[tuple[Reading, Attainment | None]]] = field(init=False)
    models: Remembered[Models] = field(init=False)
    _build: tuple[int, Models] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.readings = Remembered(self._read_clocks, _CLOCKS_KEPT)
        self.kept = Remembered(self._read_kept, _MODELS_KEPT)
        self.models = Remembered(self._read_models, _MODELS_KEPT)

    async def broken(self) -> list[Reading]:
        """Promises that are broken now, the critical and the oldest first."""
        late = [one for one in await self.readings() if one.is_broken]
        return sorted(late, key=lambda one: (not one.critical, one.late_since is None, one.late_since, one.subject))

    async def _read_clocks(self) -> list[Reading]:
        asks_raw = any(
            freshness_of(source, table).event_within is not None
            for source in self.clocks.sources
            for table in source.tables
        )
        async with bounded_loader() if asks_raw else self.reader.session() as connection:
            return await self.clocks.read(connection, await _now(connection))

    async def _read_kept(self) -> list[tuple[Reading, Attainment | None]]:
        readings = await self.readings()
        async with self.reader.session() as connection:
            shares = await attainments(connection, readings, await _now(connection))
        return [*zip(readings, shares, strict=True)]

    async def _read_models(self) -> Models:
        async with self.reader.session() as connection:
            newest = await dbt_manifests.newest_build(connection)
            if newest is None:
                return Models(None, Dependencies(None))
            if self._build is not None and self._build[0] == newest.run_id:
                return self._build[1]
            try:
                text = await dbt_manifests.read_manifest(connection, newest.run_id)
            except LookupError:  # a newer build has taken its place just now
                return self._build[1] if self._build is not None else Models(None, Dependencies(None))
        # Some 300 kB: parsing them must not keep other pages waiting.
        manifest = await asyncio.to_thread(Manifest.read, text)
        self._build = (newest.run_id, Models(manifest, Dependencies(manifest)))
        return self._build[1]


async def _now(connection: Connection[Record]) -> datetime:
    now: datetime = await connection.fetchval("select clock_timestamp()")
    return now
