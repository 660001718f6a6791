"""Whether promises were kept that the ledger does not tell of: the newest event, and rows that wait for gold.

The watch looks every minute and keeps stretches of equal results in `ops.promise_states`: a row per change, not per
look. Time in which nobody looked counts neither way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.operations.freshness import FRESH, LATE, Reading

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Looks further apart than that say nothing of the time between them.
GAP = timedelta(minutes=5)
_KEPT_FOR = timedelta(days=60)

# A later look extends the last stretch, if it came to the same; a change begins where the last stretch ends.
_RECORD = """
with seen as (
    select s.subject, s.clock, s.kept, l.since as last_since, l.kept as last_kept, l.until as last_until
    from unnest($1::text[], $2::text[], $3::boolean[]) as s (subject, clock, kept)
    left join lateral (
        select p.since, p.kept, p.until from ops.promise_states as p
        where p.subject = s.subject and p.clock = s.clock order by p.since desc limit 1
    ) as l on l.until >= $4::timestamptz - $5::interval
),

extended as (
    update ops.promise_states as p set until = greatest(p.until, $4) from seen as s
    where p.subject = s.subject and p.clock = s.clock and p.since = s.last_since and s.kept = s.last_kept
)

insert into ops.promise_states (subject, clock, kept, since, until)
select subject, clock, kept, coalesce(last_until, $4), $4 from seen
where kept is distinct from last_kept and coalesce(last_until, $4) <= $4
on conflict (subject, clock, since) do update set kept = excluded.kept, until = excluded.until
"""
_SHARES = """
select subject, clock, sum(extract(epoch from least(until, $2) - greatest(since, $1))) as seconds,
    coalesce(sum(extract(epoch from least(until, $2) - greatest(since, $1))) filter (where kept), 0) as kept
from ops.promise_states where until > $1 and since < $2 group by subject, clock
"""


def is_recorded(reading: Reading) -> bool:
    """Whether that is a clock of which the ledger keeps no history."""
    return reading.clock == "event" or (reading.clock == "pipeline" and reading.source is not None)


async def record_states(connection: Connection[Record], readings: Sequence[Reading], now: datetime) -> None:
    """What a look at the clocks came to. What cannot be read, and what is not due, is neither kept nor broken."""
    found = [one for one in readings if is_recorded(one) and one.state in (FRESH, LATE)]
    if not found:
        return
    await connection.execute(
        _RECORD,
        [one.subject for one in found],
        [one.clock for one in found],
        [one.state == FRESH for one in found],
        now,
        GAP,
    )
    await connection.execute("delete from ops.promise_states where until < $1", now - _KEPT_FOR)


async def kept_shares(connection: Connection[Record], since: datetime, until: datetime) -> dict[tuple[str, str], float]:
    """The share of the measured time in which a promise was kept, by subject and clock."""
    return {
        (row["subject"], row["clock"]): float(row["kept"] / row["seconds"])
        for row in await connection.fetch(_SHARES, since, until)
        if row["seconds"]
    }
