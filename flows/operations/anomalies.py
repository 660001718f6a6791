"""Unusual days in `ops.anomalies`: of tables (rows, arrival) and of their columns, and which ones a person accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from flows.values.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: All that a table, and a column, is compared by.
OF_TABLES = ("volume", "arrival")
OF_COLUMNS = ("nulls", "distinct", "distribution", "categories")
#: How long a change may be unusual before it is accepted, and still be accepted from its beginning.
_ACCEPT_BACK = timedelta(days=70)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One unusual day. Without a `column` it is the table's. `again`: so was the day before of that table.

    `value`, `usual`, `lowest`, `highest`: rows of a volume; minutes after midnight, UTC, of an arrival; shares of rows,
    or a number of distinct values, of a column.
    """

    source_system: str
    table_name: str
    day: date
    column_name: str
    measure: str
    state: str
    value: float
    usual: float
    lowest: float
    highest: float
    known: int
    again: bool = False
    acceptance_id: int | None = None

    @property
    def table(self) -> str:
        """`shop.baskets`."""
        return f"{self.source_system}.{self.table_name}"

    @property
    def subject(self) -> str:
        """`shop.baskets`, or `shop.baskets.status`."""
        return f"{self.table}.{self.column_name}" if self.column_name else self.table

    @property
    def what(self) -> str:
        """`null share 12.0 %, usually 0.0 % to 2.0 %`."""
        match self.measure:
            case "volume":
                return f"{self.value:,.0f} rows, usually {self.lowest:,.0f} to {self.highest:,.0f}"
            case "arrival":
                return f"arrived {clock(self.value)} UTC, usually until {clock(self.highest)}"
            case "nulls":
                return f"null share {_percent(self.value)}, usually {_percent(self.lowest)} to {_percent(self.highest)}"
            case "distinct":
                return f"{self.value:,.0f} distinct values, usually {self.lowest:,.0f} to {self.highest:,.0f}"
            case "categories":
                return (
                    f"other categories in {_percent(self.value)} of the rows, usually in up to {_percent(self.highest)}"
                )
            case _:
                return f"{_percent(self.value)} of the distribution moved, usually up to {_percent(self.highest)}"


def clock(minutes: float) -> str:
    """`07:05`; `next day 01:10`."""
    hours, rest = divmod(round(minutes), 60)
    return f"{'next day ' * (hours >= 24)}{hours % 24:02d}:{rest:02d}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


_COLUMNS = tuple(Anomaly.__dataclass_fields__)


async def record(connection: Connection[Record], found: Sequence[Anomaly]) -> None:
    """Keep unusual days; what is known already stays."""
    await connection.executemany(
        f"insert into ops.anomalies ({', '.join(_COLUMNS)}) "
        f"values ({', '.join(f'${n}' for n in range(1, len(_COLUMNS) + 1))}) on conflict do nothing",
        [tuple(getattr(each, name) for name in _COLUMNS) for each in found],
    )


async def anomalies(
    connection: Connection[Record], since: date, *, table: str | None = None, accepted: bool = True
) -> list[Anomaly]:
    """Those since a day, the newest first. `table`: `shop` or `shop.baskets`."""
    records = await connection.fetch(
        f"select {', '.join(_COLUMNS)} from ops.anomalies where day >= $1 and (acceptance_id is null or $2) "
        "and ($3::text is null or $3 in (source_system, source_system || '.' || table_name)) "
        "order by day desc, source_system, table_name, column_name, measure",
        since,
        accepted,
        table,
    )
    return [Anomaly(**dict(record)) for record in records]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was accepted: `since` is the first day of the new baseline, `days` how many anomalies it covers."""

    since: date
    days: int


async def accept(
    connection: Connection[Record], table: str, column: str | None, reason: str, by: str, *, since: date | None = None
) -> Accepted:
    """Accept a change of a table's data or of one column: days before it are no longer what is usual.

    `since` is the first day of the change; None: of the latest unusual days that follow each other.

    Raises:
        ConfigurationError: there is no unusual day that could be accepted.
    """
    source, _, name = table.partition(".")
    async with connection.transaction():
        since = since or await connection.fetchval(
            # A day that was not unusual before the one that was begins the change.
            "select max(day) from ops.anomalies where source_system = $1 and table_name = $2 "
            "and ($3::text is null or column_name = $3) and acceptance_id is null and not again "
            "and day >= now()::date - $4::interval",
            source,
            name,
            column,
            _ACCEPT_BACK,
        )
        if since is None:
            error = ConfigurationError(
                "no unusual day is open that could be accepted",
                where=table if column is None else f"{table}.{column}",
                fix="`medallion anomalies list` shows unusual days; --since accepts from another day",
            )
            error.exit_code = 2
            raise error
        acceptance = await connection.fetchval(
            "insert into ops.acceptances (source_system, table_name, column_name, since, reason, accepted_by) "
            "values ($1, $2, $3, $4, $5, $6) returning acceptance_id",
            source,
            name,
            column,
            since,
            reason,
            by,
        )
        status = await connection.execute(
            "update ops.anomalies set acceptance_id = $1 where source_system = $2 and table_name = $3 "
            "and ($4::text is null or column_name = $4) and day >= $5 and acceptance_id is null",
            acceptance,
            source,
            name,
            column,
            since,
        )
    return Accepted(since, int(status.split()[-1]))


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A change that a person accepted."""

    source_system: str
    table_name: str
    column_name: str | None
    measure: str | None
    since: date
    reason: str
    accepted_by: str


async def acceptances(connection: Connection[Record], source: str, table: str) -> list[Acceptance]:
    """What was accepted of a table, the newest first."""
    records = await connection.fetch(
        "select source_system, table_name, column_name, measure, since, reason, accepted_by from ops.acceptances "
        "where source_system = $1 and table_name = $2 order by acceptance_id desc",
        source,
        table,
    )
    return [Acceptance(**dict(record)) for record in records]


def baseline(accepted: Iterable[Acceptance], column: str, measure: str) -> date:
    """The first day that counts for what is usual of a column (empty: of the table) by that measure."""
    since = [
        each.since
        for each in accepted
        if each.column_name in (None, column) and each.measure in (None, measure)
    ]  # fmt: skip
    return max(since, default=date.min)
