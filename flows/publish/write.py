"""Staged rows → raw rows. Every function runs inside the caller's publishing transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.landing.copy import differences_table
from flows.landing.table import LANDING_SCHEMA, Target
from flows.publish.shown_keys import about_deletes, digest_of_keys
from flows.values.asking import refuse
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier
from flows.values.plan import KeySet
from flows.values.shape import METADATA_NAMES, Shape, column_list, fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# For the one join over both tables, in the publishing transaction only. More was not faster, the default twice as slow.
_JOIN_MEMORY = "64MB"
# Correlation from which both tables count as ordered by key: a merge join by their indexes took 3.6 CPU seconds for
# 2 million rows, including the index, a hash join 5.7.
_IN_ORDER = 0.9

# In a smaller table or partition, most rows may be deleted on an ordinary day.
FEW_ROWS = 100


@dataclass(frozen=True, slots=True)
class Published:
    """The effect of a publish on raw, in rows."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0

    @property
    def changed(self) -> int:
        """Changed rows of raw."""
        return self.inserted + self.updated + self.deleted


def affected(status: str) -> int:
    """The row count of a command's status."""
    return int(status.split()[-1])


async def merge(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    only: str = "",
    *,
    tombstones: bool = False,
) -> Published:
    """Insert new rows, update differing ones, skip byte-identical ones.

    `only` is a join that selects the landing rows `l`; all others are known to be unchanged.

    Rows are compared by their binary image (`*<>`): it distinguishes 1.0 from 1.00, and works for json, which has no
    equality. It needs records; between row constructors it would compare column by column.
    A row that was marked deleted and exists again is restored. With `tombstones`, landing rows with `_deleted_at` mark
    theirs as deleted: it keeps its last values, and `deleted` counts newly marked ones.
    """
    if tombstones:
        return await _merge_with_tombstones(connection, target, shape, keys, only)
    names = [*shape.names, *METADATA_NAMES]
    own = list(shape.compared)
    # The key as well: 1.0 and 1.00 are one key, and raw has it as the source writes it.
    assignments = ", ".join(f"{quote_identifier(name)} = excluded.{quote_identifier(name)}" for name in names)
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
    own = list(shape.compared)
    values = [
        f"{quote_identifier(name)} = case when excluded._deleted_at is null then excluded.{quote_identifier(name)} "
        f"else r.{quote_identifier(name)} end"
        for name in shape.names
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
    """Append the staged rows; with a key, existing rows are skipped."""
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


@dataclass(frozen=True, slots=True)
class ShrinkageLimit:
    """How far a replace may shrink raw: the `rows_read` must be at least `min_share` of the rows that raw holds."""

    rows_read: int = 0
    min_share: float = 0.0

    def is_exceeded(self, held: int) -> bool:
        """Whether so many rows of raw would shrink further."""
        return self.rows_read < held * self.min_share


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of raw's rows a replace may delete if they did not land.

    `within` is SQL over raw's columns: with a key, only rows under it can be gone. `kept` is SQL over raw's row `r`:
    those that stay.
    """

    within: str = "true"
    kept: str = "false"


async def replace(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    limit: ShrinkageLimit = ShrinkageLimit(),
    scope: Scope = Scope(),
    *,
    tombstones: bool = False,
) -> Published:
    """Make raw equal to the landing table, writing only differences, so that readers never see an empty table.

    `tombstones` as for `merge`.

    Raises:
        DataRefused: raw would shrink below the limit. A source with half of its rows is more often broken than
            cleaned up.
    """
    if not keys:
        return await _replace_whole(connection, target, shape, limit)
    within = scope.within
    # One join finds all differences, on two cores in a third of the time of a conflict check per row.
    differing = qualified(LANDING_SCHEMA, differences_table(target))
    same_key = " and ".join(f"l.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    own = list(shape.compared)
    differs = f"row({column_list(own, 'r')})::record *<> row({column_list(own, 'l')})::record"
    if tombstones:
        differs = f"(r._deleted_at is null) <> (l._deleted_at is null) or l._deleted_at is null and {differs}"
    else:
        differs = f"r._deleted_at is not null or {differs}"
    # A landed row whose key is in another partition of raw counts as new in the join, and the merge finds it there.
    held = target.raw if within == "true" else f"(select ctid, * from {target.raw} where {within})"
    # Unique: two rows of one key are noticed, at no cost.
    await connection.execute(f"create unique index on {target.landing} ({column_list(keys)})")
    await connection.execute(f"analyze {target.landing} ({column_list(keys)})")
    await connection.execute(f"set local work_mem = '{_JOIN_MEMORY}'")
    # For a part of raw, the index on its key would scan all of it.
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
    before = row["landed"] - row["new"] + row["gone"]
    if limit.is_exceeded(before):
        gone = (
            f"{target.raw} as r inner join {differing} as d on r.ctid = d.held "
            f"where d.landed is null and not ({scope.kept})"
        )
        refuse_shrinkage(target, before, limit, await digest_of_keys(connection, gone, _quoted(keys, "r")))
    deleted = affected(
        await connection.execute(
            f"delete from {target.raw} as r using {differing} as d "
            f"where d.landed is null and r.ctid = d.held and not ({scope.kept})"
        )
    )
    landed = f"inner join {differing} as d on d.landed = l.ctid"
    merged = await merge(connection, target, shape, keys, landed, tombstones=tombstones)
    await connection.execute(f"drop table {differing}")
    return Published(merged.inserted, merged.updated, merged.unchanged, merged.deleted + deleted)


async def _lie_in_order(connection: Connection[Record], target: Target, column: str) -> bool:
    """Whether landing table and raw are both physically ordered by the column, according to statistics."""
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
    connection: Connection[Record], target: Target, shape: Shape, limit: ShrinkageLimit
) -> Published:
    """Without a key, only the full content can be compared; if anything differs, all rows are rewritten."""
    held = await connection.fetchval(f"select count(*) from {target.raw}")
    own = column_list(shape.compared)
    image = f"md5(row({own})::text)"
    if limit.is_exceeded(held):
        images = f"select {image} as image from"
        gone = f"({images} {target.raw} except all {images} {target.landing}) as g"
        refuse_shrinkage(target, held, limit, await digest_of_keys(connection, gone, ["image"]))
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


def _quoted(names: tuple[str, ...], alias: str) -> list[str]:
    return [f"{alias}.{quote_identifier(name)}" for name in names]


def refuse_shrinkage(target: Target, held: int, limit: ShrinkageLimit, keys: str | None = None) -> None:
    """Raises:
    DataRefused: fewer rows arrived than the limit allows for the `held` ones in raw, and no person has allowed it: for
        these `keys` that are gone, by their digest, if they are known.
    """
    if limit.is_exceeded(held):
        error = DataRefused(
            f"{limit.rows_read} rows arrived and raw has {held}: fewer than the declared share of {limit.min_share:g}",
            where=target.where,
            fix="check the source; if the rows are really deleted, lower Replace(min_share=…) for one run",
        )
        refuse(error, about_deletes(round(1 - limit.min_share, 6), held - limit.rows_read, keys))


async def key_set(
    connection: Connection[Record], target: Target, keys: tuple[str, ...], condition: str = "true"
) -> KeySet:
    """Raw's live rows, and a fingerprint of their keys.

    One scan, which PostgreSQL shares among its parallel workers: not if it is asked for one row only, as by `fetchrow`.
    """
    mark = fingerprint([quote_identifier(key) for key in keys]) if keys else "null::numeric"
    [row] = await connection.fetch(
        f"select count(*) as rows, {mark} as mark from {target.raw} where _deleted_at is null and ({condition})"
    )
    return KeySet(row["rows"], row["mark"])
