"""Upgrade of schema `ops` while no run is active.

take the upgrade lock → from here on no run starts → wait for active runs → one transaction of DDL

The upgrade lock is a lock of tables that only the loader may lock, and an advisory lock for code before version 9. A
killed upgrade releases it, and leaves the old version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from flows.state.active_runs import active_runs
from flows.state.advisory_locks import LOAD_LOCK_CLASS, NO_TABLE
from flows.values.errors import LoadLocked

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_POLL_SECONDS = 0.25
_UPGRADE = Path(__file__).with_name("upgrade.sql")
_SCHEMA = Path(__file__).with_name("schema.sql")
_SHAPE = Path(__file__).with_name("operations_shape.sql")
# Whether holders of older code's lock may read schema ops, which readers may not; null if nobody holds it.
_HELD_BY_OLDER_CODE = """
select bool_or(to_regnamespace('ops') is null or has_schema_privilege(a.usesysid, 'ops', 'usage'))
from pg_locks as k inner join pg_stat_activity as a using (pid)
where k.locktype = 'advisory' and k.classid = $1::int::oid and k.objid = $2::int::oid and k.objsubid = 2
    and k.database = (select oid from pg_database where datname = current_database()) and k.granted
"""
# A rehearsal must not block loads: they would queue behind its lock.
_REHEARSAL_LOCK_MS = 1000


def statements() -> str:
    """All statements of an upgrade, as SQL."""
    return _UPGRADE.read_text(encoding="utf-8") + "\n" + _SCHEMA.read_text(encoding="utf-8")


async def upgrade(
    connection: Connection[Record],
    known_version: Callable[[Connection[Record]], Awaitable[int | None]],
    wanted: int,
    *,
    wait_seconds: float,
) -> bool:
    """Upgrade the schema to the required version; False if another process has done it meanwhile.

    New runs wait meanwhile, as for any lock.

    Raises:
        LoadLocked: runs or another upgrade were active during the full wait. Nothing was changed.
    """
    until = time.monotonic() + wait_seconds
    async with connection.transaction():
        async with _told_as_lock("another upgrade of schema ops is running"):
            await _limit_waits(connection, until)
            await _take_turn(connection, until)
        version = await known_version(connection)
        if version == wanted:
            return False
        if version is not None:
            await _let_runs_end(connection, f"from version {version} to {wanted}", until)
        async with _told_as_lock("sessions lock tables of schema ops"):
            await _limit_waits(connection, until)
            await connection.execute(statements())
    return True


async def rehearse(connection: Connection[Record]) -> list[str]:
    """What an upgrade would add, drop and change, found by running it in a transaction that is rolled back.

    Lines such as `comes    table ops.releases` and `goes     column ops.loads.rows_tombstones bigint`, sorted.

    Raises:
        LoadLocked: sessions lock tables of schema ops, so it could not be rehearsed.
    """
    rehearsal = connection.transaction()
    await rehearsal.start()
    try:
        async with _told_as_lock("sessions lock tables of schema ops, so the upgrade could not be rehearsed"):
            await connection.execute("select set_config('lock_timeout', $1, true)", f"{_REHEARSAL_LOCK_MS}ms")
            before = await _shape(connection)
            await connection.execute(statements())
            after = await _shape(connection)
    finally:
        await rehearsal.rollback()
    new_tables = {thing.removeprefix("table ") for thing in after - before if thing.startswith("table ")}
    lines = [f"goes   {thing}" for thing in sorted(before - after)]
    lines += [
        f"comes  {thing}"
        for thing in sorted(after - before)
        if thing.startswith("table ") or not any(f" {table}." in thing for table in new_tables)
    ]
    return lines


async def _shape(connection: Connection[Record]) -> set[str]:
    return {row["thing"] for row in await connection.fetch(_SHAPE.read_text(encoding="utf-8"))}


async def _take_turn(connection: Connection[Record], until: float) -> None:
    """Take the upgrade lock, which keeps runs from starting."""
    for table in ("ops.schema_version", "ops.locks"):
        if await connection.fetchval("select to_regclass($1) is not null", table):
            await connection.execute(f"lock table {table} in share row exclusive mode")
    while not await connection.fetchval("select pg_try_advisory_xact_lock($1, $2)", LOAD_LOCK_CLASS, NO_TABLE):
        if await connection.fetchval(_HELD_BY_OLDER_CODE, LOAD_LOCK_CLASS, NO_TABLE) is False:
            return  # a reader holds it, which blocks older code like the upgrade would; no need to wait for it
        if time.monotonic() >= until:
            raise asyncpg.LockNotAvailableError("another upgrade, by older code")
        await asyncio.sleep(_POLL_SECONDS)


async def _let_runs_end(connection: Connection[Record], step: str, until: float) -> None:
    while running := await active_runs(connection):
        if time.monotonic() >= until:
            listed = ", ".join(str(run) for run in running[:5])
            more = f" and {len(running) - 5} more" if len(running) > 5 else ""
            raise LoadLocked(
                f"schema ops cannot be upgraded {step} while runs are active: {listed}{more}",
                where="schema ops",
                fix="wait until they end or stop them, and pause the work pool so that no other starts; "
                "`medallion migrate --plan` shows active runs",
                retryable=True,
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _limit_waits(connection: Connection[Record], until: float) -> None:
    # 0 would mean no limit at all.
    patience = max(1, int((until - time.monotonic()) * 1000))
    await connection.execute("select set_config('lock_timeout', $1, true)", f"{patience}ms")


@asynccontextmanager
async def _told_as_lock(what: str) -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.LockNotAvailableError:
        raise LoadLocked(
            what, where="schema ops", fix="wait until they end, and run the command again", retryable=True
        ) from None
