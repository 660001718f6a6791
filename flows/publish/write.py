"""Staged rows → raw rows. Every function runs inside the publishing transaction, which the caller holds open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.landing.copy import differences_table
from flows.landing.table import LANDING_SCHEMA, Target
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier
from flows.values.plan import KeySet
from flows.values.shape import METADATA_NAMES, Shape, column_list, fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# For the one join over both tables, in the publishing transaction only. More was not faster, the default twice as slow.
_JOIN_MEMORY = "64MB"
# Both tables lie in the order of their keys this far: read side by side by their indexes, 2 million rows took 3.6
# processor seconds, the index included, and hashed 5.7.
_IN_ORDER = 0.9

# In a table or partition with fewer rows, most of them may well be deleted on an ordinary day.
FEW_ROWS = 100


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did to raw, in rows."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0

    @property
    def changed(self) -> int:
        """Rows of raw that are different now."""
        return self.inserted + self.updated + self.deleted


def affected(status: str) -> int:
    """The rows that a command's status counts."""
    return int(status.split()[-1])


async def drop_repeats(
    connection: Connection[Record], target: Target, keys: tuple[str, ...], cursor: str | None
) -> int:
    """Keep one landing row per key: the one furthest by the cursor, then the one that arrived last."""
    newest = f"{quote_identifier(cursor)} desc nulls last, " if cursor else ""
    status = await connection.execute(
        f"with ranked as (select ctid, row_number() over "
        f"(partition by {column_list(keys)} order by {newest}ctid desc) as place from {target.landing}) "
        f"delete from {target.landing} as l using ranked as r where l.ctid = r.ctid and r.place > 1"
    )
    return affected(status)


async def merge(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    only: str = "",
    *,
    tombstones: bool = False,
) -> Published:
    """Insert what is new, update what differs, leave alone what is the same, byte for byte.

    `only` is a join that picks the landing rows `l` to look at; all others are known to be the same.

    Rows are compared by their binary image (`*<>`): it tells 1.0 from 1.00, and json, which has no equality, from
    json. It wants records; between row constructors it would compare column by column.
    A row that had been marked deleted and is there again comes back to life. With `tombstones` landing rows with
    `_deleted_at` mark theirs as deleted: it keeps its last values, and `deleted` counts those newly marked.
    """
    if tombstones:
        return await _merge_with_tombstones(connection, target, shape, keys, only)
    names = [*shape.names, *METADATA_NAMES]
    own = list(shape.names)
    assignments = ", ".join(
        f"{quote_identifier(name)} = excluded.{quote_identifier(name)}" for name in names if name not in keys
    )
    row = await connection.fetchrow(
        f"with written as (insert into {target.raw} as r ({column_list(names)}) "
        f"select {column_list(names, 'l')} from {target.landing} as l {only} "
        f"on conflict ({column_list(keys)}) do update set {assignments} "
        f"where row({column_list(own, 'r')})::record *<> row({column_list(own, 'excluded')})::record "
        f"or r._deleted_at is not null "
        f"returning (xmax = 0) as is_new) "
        f"select count(*) filter (where is_new) as inserted, count(*) filter (where not is_new) as updated, "
        f"(select count(*) from {target.landing}) as staged from written"
    )
    assert row is not None  # an aggregate always answers one row
    return Published(row["inserted"], row["updated"], row["staged"] - row["inserted"] - row["updated"])


async def _merge_with_tombstones(
    connection: Connection[Record], target: Target, shape: Shape, keys: tuple[str, ...], only: str
) -> Published:
    names = [*shape.names, *METADATA_NAMES]
    own = list(shape.names)
    values = [
        f"{quote_identifier(name)} = case when excluded._deleted_at is null then excluded.{quote_identifier(name)} "
        f"else r.{quote_identifier(name)} end"
        for name in own
        if name not in keys
    ] + [f"{name} = excluded.{name}" for name in METADATA_NAMES]
    row = await connection.fetchrow(
        f"with written as (insert into {target.raw} as r ({column_list(names)}) "
        f"select {column_list(names, 'l')} from {target.landing} as l {only} "
        f"on conflict ({column_list(keys)}) do update set {', '.join(values)} "
        f"where (r._deleted_at is null) <> (excluded._deleted_at is null) or excluded._deleted_at is null and "
        f"row({column_list(own, 'r')})::record *<> row({column_list(own, 'excluded')})::record "
        f"returning (xmax = 0) as is_new, r._deleted_at is not null as is_gone) "
        f"select count(*) filter (where is_new) as inserted, count(*) filter (where not is_new) as updated, "
        f"count(*) filter (where is_gone) as deleted, (select count(*) from {target.landing}) as staged from written"
    )
    assert row is not None  # an aggregate always answers one row
    unchanged = row["staged"] - row["inserted"] - row["updated"]
    return Published(row["inserted"], row["updated"], unchanged, row["deleted"])


async def append(connection: Connection[Record], target: Target, shape: Shape, keys: tuple[str, ...]) -> Published:
    """Add the staged rows; with a key, rows that are there already are left alone."""
    names = [*shape.names, *METADATA_NAMES]
    conflict = f" on conflict ({column_list(keys)}) do nothing" if keys else ""
    inserted = affected(
        await connection.execute(
            f"insert into {target.raw} ({column_list(names)}) "
            f"select {column_list(names)} from {target.landing}{conflict}"
        )
    )
    staged = await connection.fetchval(f"select count(*) from {target.landing}")
    return Published(inserted=inserted, unchanged=staged - inserted)


async def replace(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    *,
    rows_read: int = 0,
    min_share: float = 0.0,
    kept: str = "false",
    within: str = "true",
    tombstones: bool = False,
) -> Published:
    """Make raw what the landing table is, writing only the difference, so that nobody sees an empty table.

    `kept` is SQL over raw's row `r`: those that stay although they did not land. `within` is SQL over raw's columns:
    with a key, only rows under it can be gone. `tombstones` as for `merge`.

    Raises:
        DataRefused: the `rows_read` are fewer than `min_share` of what raw holds. A source that answers half is more
            often broken than sold.
    """
    if not keys:
        return await _replace_whole(connection, target, shape, rows_read, min_share)
    # One join finds all that differs, on two cores in a third of the time that meeting each row's conflict takes.
    differing = qualified(LANDING_SCHEMA, differences_table(target))
    same_key = " and ".join(f"l.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    own = list(shape.names)
    differs = f"row({column_list(own, 'r')})::record *<> row({column_list(own, 'l')})::record"
    if tombstones:
        differs = f"(r._deleted_at is null) <> (l._deleted_at is null) or l._deleted_at is null and {differs}"
    else:
        differs = f"r._deleted_at is not null or {differs}"
    # A landed row whose key stands elsewhere in raw counts as new in the join, and the merge finds it there.
    held = target.raw if within == "true" else f"(select ctid, * from {target.raw} where {within})"
    await connection.execute(f"create index on {target.landing} ({column_list(keys)})")
    await connection.execute(f"analyze {target.landing} ({column_list(keys)})")
    await connection.execute(f"set local work_mem = '{_JOIN_MEMORY}'")
    # Of a part of raw, the index on its key would lead through all of it.
    if within == "true" and await _lie_in_order(connection, target, keys[0]):
        await connection.execute("set local enable_hashjoin = off")
    await connection.execute(f"drop table if exists {differing}")
    await connection.execute(
        f"create unlogged table {differing} as select l.ctid as landed, r.ctid as held "
        f"from {target.landing} as l full join {held} as r on {same_key} "
        f"where l.ctid is null or r.ctid is null or {differs}"
    )
    await connection.execute("set local enable_hashjoin = on")
    await connection.execute(f"analyze {differing}")
    row = await connection.fetchrow(
        f"select (select count(*) from {target.landing}) as landed, count(*) filter (where landed is null) as gone, "
        f"count(*) filter (where held is null) as new from {differing}"
    )
    assert row is not None  # an aggregate always answers one row
    refuse_shrinkage(target, row["landed"] - row["new"] + row["gone"], rows_read, min_share)
    deleted = affected(
        await connection.execute(
            f"delete from {target.raw} as r using {differing} as d "
            f"where d.landed is null and r.ctid = d.held and not ({kept})"
        )
    )
    landed = f"inner join {differing} as d on d.landed = l.ctid"
    merged = await merge(connection, target, shape, keys, landed, tombstones=tombstones)
    await connection.execute(f"drop table {differing}")
    return Published(merged.inserted, merged.updated, merged.unchanged, merged.deleted + deleted)


async def _lie_in_order(connection: Connection[Record], target: Target, column: str) -> bool:
    """Whether landing table and raw both lie on their pages in the order of the column, as far as statistics know."""
    least = await connection.fetchval(
        "select min(abs(s.correlation)) from pg_stats as s where s.attname = $1 and (s.schemaname, s.tablename) in ("
        "select n.nspname, c.relname from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid "
        "where c.oid in (to_regclass($2), to_regclass($3))) having count(*) = 2",
        column,
        target.landing,
        target.raw,
    )
    return least is not None and least >= _IN_ORDER


async def _replace_whole(
    connection: Connection[Record], target: Target, shape: Shape, rows_read: int, min_share: float
) -> Published:
    """Without a key rows can only be compared as a whole; when anything differs, all are written again."""
    held = await connection.fetchval(f"select count(*) from {target.raw}")
    refuse_shrinkage(target, held, rows_read, min_share)
    own = column_list(shape.names)
    image = f"md5(row({own})::text)"
    differs = await connection.fetchval(
        f"select exists (select 1 from "
        f"(select {image} as image, count(*) as times from {target.landing} group by 1) as l "
        f"full join (select {image} as image, count(*) as times from {target.raw} group by 1) as r "
        f"using (image, times) where l.image is null or r.image is null)"
    )
    staged = await connection.fetchval(f"select count(*) from {target.landing}")
    if not differs:
        return Published(unchanged=staged)
    names = column_list([*shape.names, *METADATA_NAMES])
    deleted = affected(await connection.execute(f"delete from {target.raw}"))
    await connection.execute(f"insert into {target.raw} ({names}) select {names} from {target.landing}")
    return Published(inserted=staged, deleted=deleted)


def refuse_shrinkage(target: Target, held: int, rows_read: int, min_share: float) -> None:
    """Raises:
    DataRefused: fewer rows came than `min_share` of the `held` ones in raw.
    """
    if rows_read < held * min_share:
        raise DataRefused(
            f"{rows_read} rows came where raw holds {held}: fewer than the declared share of {min_share:g}",
            where=target.where,
            fix="look at the source; if the rows are really gone, lower Replace(min_share=…) for one run",
        )


async def key_set(
    connection: Connection[Record], target: Target, keys: tuple[str, ...], condition: str = "true"
) -> KeySet:
    """Raw rows that the source still has, and a fingerprint of their keys."""
    mark = fingerprint([quote_identifier(key) for key in keys]) if keys else "null::numeric"
    row = await connection.fetchrow(
        f"select count(*) as rows, {mark} as mark from {target.raw} where _deleted_at is null and ({condition})"
    )
    assert row is not None  # an aggregate always answers one row
    return KeySet(row["rows"], row["mark"])
