"""What the watch says of itself, in `ops.watches`: `medallion status` shows it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
#: Seconds, and at least three rounds, after which a watch that makes no more of them counts as gone.
_GONE_AFTER = 60.0


@dataclass(slots=True)
class Others:
    """Other watches of the same warehouse. Two that find different things would resolve each other's alerts."""

    #: By host and start: its last round, when that was seen first, and when it was seen to move.
    _rounds: dict[tuple[str, datetime], tuple[datetime, float, float | None]] = field(default_factory=dict, init=False)
    _leader: str | None = field(default=None, init=False)
    is_decided: bool = field(default=True, init=False)

    async def leader(
        self, connection: Connection[Record], host: str, started_at: datetime, elapsed: float
    ) -> str | None:
        """The host of a watch that was started before this one, and makes rounds; None: this one is to report.

        What counts is that its rounds go on between two of ours: a former process of this host left its last one. Until
        that is known, `is_decided` is False: then nothing may be resolved that the other one may have found.
        """
        rows = await connection.fetch(
            "select host, started_at, last_round_at, "
            "extract(epoch from clock_timestamp() - last_round_at)::float8 as age from ops.watches order by 2, 1"
        )
        gone_after = max(_GONE_AFTER, 3 * settings().watch_seconds)
        found, self.is_decided = None, True
        for row in rows:
            key, last = (row["host"], row["started_at"]), row["last_round_at"]
            if (key[1], key[0]) >= (started_at, host):
                continue
            former, first_at, moved_at = self._rounds.get(key, (last, elapsed, None))
            if last != former:
                moved_at = elapsed
            self._rounds[key] = (last, first_at, moved_at)
            if moved_at is not None and elapsed - moved_at < gone_after:
                found = found or key[0]
            elif moved_at is None and row["age"] < gone_after and elapsed - first_at < gone_after / 2:
                self.is_decided = False
        if found != self._leader:
            _log.warning(
                "%s: this watch %s",
                f"a watch on {found} reports" if found else "no other watch reports",
                "stands by" if found else "reports",
            )
        self._leader = found
        return found


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
