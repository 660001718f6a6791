"""What the watch says of itself, in `ops.watches`: `medallion status` shows it."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def record_round(connection: Connection[Record], host: str, started_at: datetime, seconds: float) -> None:
    """A round ended. With the first of a process, hosts that are gone, such as former containers, are forgotten."""
    rounds = await connection.fetchval(
        "insert into ops.watches as w (host, version, started_at, seconds) values ($1, $2, $3, $4) "
        "on conflict (host) do update set version = excluded.version, last_round_at = clock_timestamp(), "
        "rounds = case when w.started_at = excluded.started_at then w.rounds + 1 else 1 end, "
        "started_at = excluded.started_at, seconds = excluded.seconds returning rounds",
        host,
        _version(),
        started_at,
        seconds,
    )
    if rounds == 1:
        await connection.execute("delete from ops.watches where last_round_at < now() - '1 day'::interval")


@cache
def _version() -> str:
    try:
        number = version("medallion-platform")
    except PackageNotFoundError:
        number = "unknown"
    return f"{number} ({settings().commit[:10]})" if settings().commit else number
