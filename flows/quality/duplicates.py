"""Keys that are not unique at the source: their rows go to quarantine as `key_not_unique`, each copy counted.

Nobody can say which copy of a key is the right one, so none is chosen silently: all are set aside, and raw keeps what
it had; or, if declared, the newest is loaded and the others are set aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.quality.open_rows import KEY_NOT_UNIQUE, released, same_key
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.shape import Shape, column_list, row_document
from flows.values.table_name import TableName

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Groups of 2 million keys fit; with the default, they would spill to disk.
_GROUPING_MEMORY = "64MB"


@dataclass(frozen=True, slots=True)
class Copies:
    """How the rows of a landing table are compared by key: its relation, the key's columns and types, and the cursor.

    `newest`: the newest copy of a key is loaded. `may_repeat`: the read may contain a row twice, as pages of a list do
    and snapshots of a resumed read; then equal rows, and older versions by the cursor, are repeats and not copies.
    """

    landing: str
    shape: Shape
    keys: Mapping[str, str]
    cursor: str | None = None
    newest: bool = False
    may_repeat: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The key's columns."""
        return tuple(self.keys)

    @property
    def order(self) -> str:
        """SQL over `l`: the newest first; of equally new ones the last that was read."""
        newest = f"l.{quote_identifier(self.cursor)} desc nulls last, " if self.cursor else ""
        return f"{newest}l.ctid desc"

    @property
    def repeated(self) -> str:
        """SQL for the keys that more than one row has. A key with a null is no key: another check refuses its row."""
        there = " and ".join(f"{quote_identifier(name)} is not null" for name in self.names)
        columns = column_list(self.names)
        return f"(select {columns} from {self.landing} where {there} group by {columns} having count(*) > 1)"

    @property
    def ranked(self) -> str:
        """SQL for the rows of those keys: `at` (ctid), `place` from the newest."""
        same = " and ".join(f"l.{quote_identifier(name)} = k.{quote_identifier(name)}" for name in self.names)
        return (
            f"(select l.ctid as at, row_number() over (partition by {column_list(self.names, 'l')} "
            f"order by {self.order}) as place from {self.landing} as l inner join {self.repeated} as k on {same})"
        )


async def exist(connection: Connection[Record], copies: Copies) -> bool:
    """Whether two rows of the landing table have one key. One scan of it."""
    async with connection.transaction():
        await connection.execute(f"set local work_mem = '{_GROUPING_MEMORY}'")
        return bool(await connection.fetchval(f"select exists {copies.repeated}"))


async def drop_repeats(connection: Connection[Record], copies: Copies) -> int:
    """Keep one of equal rows, and the newest of versions that the cursor orders; returns how many were dropped."""
    same = " and ".join(f"l.{quote_identifier(name)} = k.{quote_identifier(name)}" for name in copies.names)
    keys = column_list(copies.names, "l")
    image = f"md5(row({column_list(copies.shape.compared, 'l')})::text)"
    older = "false"
    if copies.cursor:
        cursor = f"l.{quote_identifier(copies.cursor)}"
        older = f"{cursor} is distinct from max({cursor}) over (partition by {keys})"
    status = await connection.execute(
        f"with ranked as (select l.ctid as at, row_number() over (partition by {keys}, {image} order by {copies.order})"
        f" > 1 or {older} as is_repeat from {copies.landing} as l inner join {copies.repeated} as k on {same}) "
        f"delete from {copies.landing} as l using ranked as r where l.ctid = r.at and r.is_repeat"
    )
    return int(status.split()[-1])


async def keep_newest(connection: Connection[Record], copies: Copies) -> int:
    """Keep only the newest row of each key, whatever the others hold; returns how many were dropped."""
    status = await connection.execute(
        f"with ranked as {copies.ranked} delete from {copies.landing} as l using ranked as r "
        "where l.ctid = r.at and r.place > 1"
    )
    return int(status.split()[-1])


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows that were moved to quarantine, and how many of them it already had."""

    rows: int
    known: int


async def set_aside(
    connection: Connection[Record], copies: Copies, *, table: TableName, batch_id: int, read: str | None
) -> SetAside:
    """Landing rows whose key is not unique → quarantine.rows, in the publishing transaction.

    `read` is SQL over `quarantine.rows as q`, the rows that this read covers completely: copies among them that did not
    come again are closed. None: it covers none, and a row whose key has copies in quarantine is one more of them.
    """
    known_keys = "false"
    if read is None and not copies.newest:
        known_keys = (
            f"exists (select from quarantine.rows as q where q.source_system = {quote_literal(table.source)} "
            f"and q.table_name = {quote_literal(table.name)} and q.withheld "
            f"and q.rule = '{KEY_NOT_UNIQUE}' and {same_key(copies.keys, 'l')})"
        )
    pairs = ", ".join(f"{quote_literal(name)}, l.{quote_identifier(name)}" for name in copies.names)
    came = "exists (select from hashed as h where h.row_key = q.row_key)"
    resolution = f"case when {came} then 'superseded' else 'fixed at the source' end"
    row = await connection.fetchrow(
        f"""
        with ranked as {copies.ranked}, taken as (
            delete from {copies.landing} as l
            where l.ctid in (select at from ranked where place > {int(copies.newest)}) or {known_keys}
            returning jsonb_build_object({pairs}) as row_key, {row_document(copies.shape, "l")} as row_data
        ), hashed as (
            -- Equal copies are numbered: each is stored, as each counts at the source.
            select row_key, row_data, md5(row_data::text || coalesce('#' || nullif(
                row_number() over (partition by row_key, md5(row_data::text)), 1
            ), '')) as row_hash from taken
        ), closed as (
            update quarantine.rows as q set {released(resolution)}
            where q.source_system = $1 and q.table_name = $2 and q.withheld
                and not exists (
                    select from hashed as h
                    where q.rule = '{KEY_NOT_UNIQUE}' and h.row_key = q.row_key and h.row_hash = q.row_hash
                )
                and (
                    q.rule = '{KEY_NOT_UNIQUE}' and ({read or "false"})
                    or q.rule <> '{KEY_NOT_UNIQUE}' and exists (select from hashed as h where h.row_key = q.row_key)
                )
        ), kept as (
            insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash)
            select $3, $1, $2, row_key, '{KEY_NOT_UNIQUE}', row_data, row_hash from hashed
            on conflict (source_system, table_name, rule, row_hash) where withheld do nothing
            returning 1
        )
        select count(*) as rows, count(*) - (select count(*) from kept) as known from hashed
        """,
        table.source,
        table.name,
        batch_id,
    )
    assert row is not None  # an aggregate always answers one row
    return SetAside(row["rows"], row["known"])
