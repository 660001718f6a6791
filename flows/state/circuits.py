"""The circuits of sources, in `ops.circuits`: shared by all runs, so that one run's failures spare the others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A testing load that died keeps the circuit half-open no longer than this.
_LONGEST_TRIAL = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why requests are blocked: `wait` seconds are left, or another load is testing the source."""

    state: str
    wait: float
    what: str | None


async def admit(connection: Connection[Record], source: str) -> Refusal | None:
    """Whether requests are allowed. After the wait, exactly one caller may test the source."""
    row = await connection.fetchrow(
        "select state, what, coalesce(extract(epoch from retry_at - clock_timestamp()), 0)::float8 as wait, "
        "changed_at < clock_timestamp() - $2::interval as is_old from ops.circuits where source_system = $1",
        source,
        _LONGEST_TRIAL,
    )
    if row is None or row["state"] == "closed":
        return None
    if row["state"] == "open" and row["wait"] > 0:
        return Refusal("open", row["wait"], row["what"])
    tried = await connection.fetchval(
        "update ops.circuits set state = 'half-open', changed_at = clock_timestamp() where source_system = $1 "
        "and ((state = 'open' and retry_at <= clock_timestamp()) "
        "or (state = 'half-open' and changed_at < clock_timestamp() - $2::interval)) returning true",
        source,
        _LONGEST_TRIAL,
    )
    return None if tried else Refusal("half-open", 0.0, row["what"])


async def worked(connection: Connection[Record], source: str) -> None:
    """The source responded: close its circuit."""
    await connection.execute(
        "update ops.circuits set state = 'closed', failures = 0, openings = 0, retry_at = null, what = null, "
        "changed_at = clock_timestamp() where source_system = $1 and (state <> 'closed' or failures > 0)",
        source,
    )


async def failed(
    connection: Connection[Record], source: str, what: str, threshold: int, first_wait: float, longest_wait: float
) -> None:
    """A load failed because of the source. At the threshold, or if the load was the test, the circuit opens.

    It is open for `first_wait` seconds, and twice as long each further time, up to `longest_wait`.
    """
    await connection.execute(
        """
        insert into ops.circuits as c (source_system, failures, what, state, openings, retry_at)
        values (
            $1, 1, $2,
            case when $3 <= 1 then 'open' else 'closed' end,
            case when $3 <= 1 then 1 else 0 end,
            case when $3 <= 1 then clock_timestamp() + make_interval(secs => $4) end
        )
        on conflict (source_system) do update set
            failures = c.failures + 1,
            what = excluded.what,
            changed_at = clock_timestamp(),
            state = case when c.state <> 'closed' or c.failures + 1 >= $3 then 'open' else 'closed' end,
            openings = c.openings + case when c.state <> 'closed' or c.failures + 1 >= $3 then 1 else 0 end,
            retry_at = case
                when c.state <> 'closed' or c.failures + 1 >= $3
                    then clock_timestamp() + make_interval(secs => least($5, $4 * power(2, least(c.openings, 30))))
            end
        """,
        source,
        what,
        threshold,
        first_wait,
        longest_wait,
    )


async def all_circuits(connection: Connection[Record]) -> list[dict[str, Any]]:
    """The circuits that are not closed or have failures: source_system, state, failures, retry_at, what."""
    rows = await connection.fetch(
        "select source_system, state, failures, retry_at, what from ops.circuits where state <> 'closed' "
        "or failures > 0 order by source_system"
    )
    return [dict(row) for row in rows]
