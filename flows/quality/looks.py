"""What a quarantined row consists of: names, types and lengths; its values only if they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.quality.entries import Count, Entry, Wanted
from flows.values.errors import DeclarationError
from flows.values.identifiers import qualified

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The schema of rows that a rule of silver refused. dbt rebuilds it: they are fixed at the source or in the model.
SILVER = "silver_quarantine"
# Of a value that is shown.
_LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class ColumnLook:
    """A column or field of a row: kind of its JSON value, its length in characters; the value only if it is shown."""

    name: str
    kind: str
    length: int
    value: str | None = None


@dataclass(frozen=True, slots=True)
class FixLook:
    """A stored fix: which columns, who, when and why."""

    changed: Sequence[str]
    fixed_by: str
    fixed_at: datetime
    reason: str
    is_loaded: bool


@dataclass(frozen=True, slots=True)
class Look:
    """A row, its columns, the columns that the broken rule reads, and its fixes; `entry` is None in silver."""

    place: str
    rule: str
    when: datetime | None
    columns: Sequence[ColumnLook]
    entry: Entry | None = None
    fixes: Sequence[FixLook] = ()
    read_by_rule: Sequence[str] = ()


def _columns(document: str, *, reveals: bool) -> str:
    """SQL over a document: its columns, and the fields of a record beside them. Values leave the server only to be
    shown."""
    value = f"left(f.value #>> '{{}}', {_LONGEST})" if reveals else "null::text"
    return (
        f"select f.name, jsonb_typeof(f.value) as kind, coalesce(length(f.value #>> '{{}}'), 0) as length, {value} "
        f"as value from (select c.key as name, c.value from jsonb_each({document}) as c union all "
        f"select 'payload.' || c.key, c.value from jsonb_each(case jsonb_typeof({document} -> 'payload') "
        f"when 'object' then {document} -> 'payload' else '{{}}' end) as c) as f (name, value)"
    )


async def look_at(connection: Connection[Record], entry: Entry, *, reveals: bool) -> Look:
    """A row of `quarantine.rows`, as it was read."""
    columns = await connection.fetch(
        f"select f.* from quarantine.rows as q cross join lateral ({_columns('q.row_data', reveals=reveals)}) as f "
        "where q.quarantine_id = $1",
        entry.number,
    )
    fixes = await connection.fetch(
        "select f.changed, f.fixed_by, f.fixed_at, f.reason, f.fix_id <= coalesce(q.fix_id, 0) as is_loaded "
        "from quarantine.fixes as f inner join quarantine.rows as q using (quarantine_id) "
        "where quarantine_id = $1 order by f.fix_id",
        entry.number,
    )
    return Look(
        entry.table,
        entry.rule,
        entry.quarantined_at,
        [ColumnLook(*one.values()) for one in columns],
        entry,
        [FixLook(*one.values()) for one in fixes],
    )


async def _silver_tables(connection: Connection[Record]) -> list[str]:
    """Tables of refused rows in silver's quarantine that this role may read."""
    records = await connection.fetch(
        "select c.relname::text as name from pg_class as c "
        "where c.relnamespace = to_regnamespace($1) and c.relkind in ('r', 'v', 'm') "
        "and has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select') "
        "and 3 = (select count(*) from pg_attribute as a where a.attrelid = c.oid and not a.attisdropped "
        "and a.attname in ('rule', 'row_data', '_extracted_at')) order by 1",
        SILVER,
    )
    return [record["name"] for record in records]


async def count_silver(connection: Connection[Record], wanted: Wanted) -> list[Count]:
    """Rows of silver's quarantine by table and rule."""
    found = []
    for name in await _silver_tables(connection):
        records = await connection.fetch(
            f"select rule, count(*), 0, min(_extracted_at), max(_extracted_at) from {qualified(SILVER, name)} "
            "where ($1::text is null or rule = $1) and ($2::timestamptz is null or _extracted_at >= $2) "
            "and ($3::timestamptz is null or _extracted_at < $3) group by 1 order by 2 desc",
            wanted.rule,
            wanted.since,
            wanted.until,
        )
        found += [Count(f"{SILVER}.{name}", *record.values()) for record in records]
    return found


async def look_at_silver(connection: Connection[Record], place: str, limit: int, *, reveals: bool) -> list[Look]:
    """The first rows of a table of silver's quarantine.

    Raises:
        DeclarationError: there is no such table, or this role may not read it.
    """
    name = place.removeprefix(f"{SILVER}.")
    known = await _silver_tables(connection)
    if name not in known:
        raise DeclarationError(
            f"silver's quarantine has no table {name} that this role may read",
            where=place,
            fix=f"use one of {', '.join(known)}" if known else "`medallion transform` builds it",
        )
    found = []
    records = await connection.fetch(
        f"select rule, _extracted_at, row_data::text as document from {qualified(SILVER, name)} limit $1", limit
    )
    for record in records:
        columns = await connection.fetch(_columns("$1::text::jsonb", reveals=reveals), record["document"])
        found.append(
            Look(place, record["rule"], record["_extracted_at"], [ColumnLook(*one.values()) for one in columns])
        )
    return found
