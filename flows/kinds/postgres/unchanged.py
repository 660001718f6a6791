"""Whether a table equals raw, found out by each server on its own side, before any row is copied.

A replace reads all rows to find those that differ. Often none does: then both servers compute a digest of their rows at
the same time, in a third of what copying and comparing them takes, and nothing is staged or written. The digests are
the proof. Whether to try at all is decided by the source's statistics, since digests that differ were computed in vain:
no row may have been inserted, updated or deleted since the last load.

A row's image is made of the values themselves where PostgreSQL's hash sees every bit of them, and of the bytes that
COPY would send for all other types: 1.0 and 1.00 are not the same row. Types of the source's own are compared as text,
or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.declare import Replace
from flows.declare.table import Table
from flows.publish.session import LoadSession
from flows.quality.rules import door_rules, first_broken
from flows.values.identifiers import quote_identifier
from flows.values.shape import Column, Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A standby does not count what is written, and neither does a server without statistics.
_WRITTEN = """
with recursive parts as (
    select c.oid, c.relkind from pg_catalog.pg_class as c where c.oid = to_regclass($1)
    union
    select c.oid, c.relkind
    from parts
    inner join pg_catalog.pg_inherits as h on parts.oid = h.inhparent
    inner join pg_catalog.pg_class as c on h.inhrelid = c.oid
)
-- Of pg_stat_all_tables, PostgreSQL computes all rows to find one: with 500 tables, 1.4 ms for each.
select sum(
    pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)
)::text
from parts
having bool_and(parts.relkind in ('r', 'p')) and not pg_is_in_recovery() and current_setting('track_counts')::boolean
"""
# The function that turns a value of the column's type into the bytes of binary COPY, for types of PostgreSQL's own.
_SENDERS = """
select json_object_agg(a.attname, p.proname)::text
from pg_attribute as a
inner join pg_type as t on a.atttypid = t.oid
inner join pg_proc as p on t.typsend = p.oid
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
    and t.typnamespace = 'pg_catalog'::regnamespace
"""
# hash_record_extended() is a function of PostgreSQL 14 and later.
_SINCE = 14
# Their hash is one of all bits. That of bigint and of timestamps folds 64 bits to 32: 1 and 4294967296 have the same.
_HASHED_IN_FULL = frozenset({"smallint", "integer", "date", "boolean", "oid", "uuid", "bytea"})
# The results of both servers decide whether they compute the same hashes.
_PROBE = (
    "select getdatabaseencoding() as encoding, pg_catalog.hash_record_extended(row(1, true, 'medallion'::text "
    "collate \"C\", '\\x6d'::bytea, '00000000-0000-4000-8000-000000000001'::uuid), 42) as hash"
)
# $1 is the raw table, $2 the source, $3 its table.
_OURS = f"""
select
    exists (
        select from quarantine.rows as q where q.source_system = $2 and q.table_name = $3 and q.withheld
    ) as is_quarantined,
    ({_SENDERS}) as senders,
    probe.*
from ({_PROBE}) as probe
"""


async def written(origin: Connection[Record], table: Table) -> str | None:
    """A number that grows with each row that is written to the table; None if the source does not count them."""
    if not isinstance(table.load, Replace) or table.query or not table.keys:
        return None
    found: str | None = await origin.fetchval(_WRITTEN, table.catalogued)
    return found


def is_unwritten(table: Table, shape: Shape, stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether comparing digests is worth trying: nothing was written since the state was `stored`."""
    fits = isinstance(table.load, Replace) and bool(table.keys) and not shape.undecodable
    return fits and stored.get("written") is not None and stored["written"] == now.get("written")


@dataclass(frozen=True, slots=True)
class _Side:
    """SQL over the rows of one side: the images of their keys and of their columns."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def digest(self) -> str:
        """How many rows there are, and a number that is equal for equal rows, as `rows` and `mark`."""
        # PostgreSQL adds up the hashes of a row's columns. Each row has a seed of its own, from its key: with one seed
        # for all rows, values that change places between two rows would not change the sum.
        seed = f"pg_catalog.hash_record_extended(row({', '.join(self.keys)}), 0)"
        image = f"pg_catalog.hash_record_extended(row({', '.join(self.columns)}), {seed})"
        return f"count(*) as rows, coalesce(sum({image}), 0) as mark"


def _sides(senders: Mapping[str, str], table: Table, shape: Shape) -> tuple[_Side, _Side] | None:
    """Source and raw; None if a column has a type that cannot be compared, or raw has another one."""
    ends = []
    for at_source in (True, False):
        images = dict[str, str]()
        for column in shape.columns:
            value = column.select if at_source else quote_identifier(column.name)
            image = _image(column, value, senders.get(column.name))
            if image is None:
                return None
            images[column.name] = image
        ends.append(_Side(tuple(images[key] for key in table.keys), tuple(images.values())))
    return ends[0], ends[1]


def _image(column: Column, value: str, sender: str | None) -> str | None:
    if column.enum is not None or column.raw_type == "text" or column.raw_type.startswith("character varying"):
        # Under "C": a collation may treat different texts as equal.
        return None if column.raw_type.endswith("[]") else f'({value})::text collate "C"'
    if column.raw_type in _HASHED_IN_FULL:
        return value
    return None if sender is None else f"pg_catalog.{quote_identifier(sender)}({value})"


async def count_equal(session: LoadSession, origin: Connection[Record], table: Table, shape: Shape) -> int | None:
    """The number of rows, if those of the source equal raw's and all are in order; None if they may not.

    None as well if raw has rows that a replace would remove, quarantine or release. `origin` is inside the transaction
    whose snapshot is read; if it cannot compute the digest, that transaction is over.
    """
    warehouse, target = session.warehouse, session.target
    if min(one.get_server_version().major for one in (origin, warehouse)) < _SINCE:
        return None
    known = await warehouse.fetchrow(_OURS, target.raw, target.source, target.table)
    assert known is not None  # a select of constants always answers one row
    sides = _sides(json.loads(known["senders"] or "{}"), table, shape)
    if known["is_quarantined"] or sides is None:
        return None
    with session.reading():
        probe = await origin.fetchrow(_PROBE)
    if probe is None or (probe["encoding"], probe["hash"]) != (known["encoding"], known["hash"]):
        return None
    theirs, ours = sides
    at_source = f"select {theirs.digest} from {table.relation} where {table.within('true')}"
    broken = first_broken(door_rules(table.keys, table.rules))
    in_raw = (
        f"select {ours.digest}, count(*) filter (where _deleted_at is not null or ({broken}) is not null) "
        f"as unfit from {target.raw}"
    )
    answers = await asyncio.gather(origin.fetchrow(at_source), warehouse.fetchrow(in_raw), return_exceptions=True)
    with session.reading():
        source = _known(answers[0])
        if source is None:
            await origin.execute("rollback")
    raw = _known(answers[1])
    if source is None or raw is None or raw["unfit"] or (source["rows"], source["mark"]) != (raw["rows"], raw["mark"]):
        return None
    return int(source["rows"])


def _known(result: Record | BaseException | None) -> Record | None:
    """What a server has answered; None if it could not: a row of more than 1 GB can be sent, but not hashed."""
    if not isinstance(result, BaseException):
        return result
    with contextlib.suppress(asyncpg.ProgramLimitExceededError, asyncpg.InternalServerError, asyncpg.DataError):
        raise result
    return None
