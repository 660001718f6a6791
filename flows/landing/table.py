"""Tables of the warehouse: create landing tables, create and evolve raw tables."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.values.errors import SchemaDrift
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.shape import METADATA, METADATA_NAMES, Column, Shape, column_list
from flows.values.table_name import TableName

if TYPE_CHECKING:
    from asyncpg import Connection, Record

LANDING_SCHEMA = "landing"

_ROUGH_STATISTICS = 25

# 63 bytes, minus the suffixes of a landing table's auxiliary tables.
_LONGEST_LANDING_NAME = 60

# An enum's name is quoted as in `Column.raw_type`, so that the two can be compared.
#: $1 is the relation.
RAW_COLUMNS = """
select
    a.attname as name,
    case
        when t.typtype = 'e'
            then '"' || replace(n.nspname, '"', '""') || '"."' || replace(t.typname, '"', '""') || '"'
        else format_type(a.atttypid, a.atttypmod)
    end as type
from pg_attribute as a
inner join pg_type as t on a.atttypid = t.oid
inner join pg_namespace as n on t.typnamespace = n.oid
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
_ENUM_LABELS = """
select e.enumlabel::text as label
from pg_enum as e
inner join pg_type as t on e.enumtypid = t.oid
inner join pg_namespace as n on t.typnamespace = n.oid
where n.nspname = $1 and t.typname = $2
order by e.enumsortorder
"""


@dataclass(frozen=True, slots=True)
class Target:
    """The target of one table's rows: its raw table and its landing table."""

    source: str
    table: str
    raw_schema: str

    @property
    def name(self) -> TableName:
        """As state and quarantine name it."""
        return TableName(self.source, self.table)

    @property
    def raw(self) -> str:
        """`"raw_shop"."baskets"`."""
        return qualified(self.raw_schema, self.table)

    @property
    def landing_name(self) -> str:
        """`shop__baskets`, unique per table: otherwise loads would drop each other's rows.

        If two underscores within a name make it ambiguous, or PostgreSQL would truncate it, a digest is added.
        """
        name = f"{self.source}__{self.table}"
        if name.count("__") == 1 and len(name) <= _LONGEST_LANDING_NAME:
            return name
        return f"{name[: _LONGEST_LANDING_NAME - 11]}__x{hashlib.sha256(self.where.encode()).hexdigest()[:8]}"

    @property
    def landing(self) -> str:
        """`"landing"."shop__baskets"`."""
        return qualified(LANDING_SCHEMA, self.landing_name)

    @property
    def where(self) -> str:
        """`shop.baskets`, for messages."""
        return f"{self.source}.{self.table}"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One difference between the source's columns and raw's."""

    column: str
    change: str
    old_type: str | None = None
    new_type: str | None = None


async def raw_columns(connection: Connection[Record], target: Target) -> dict[str, str] | None:
    """Raw's column names and types in order; None if there is no raw table yet."""
    return await relation_columns(connection, target.raw) or None


async def relation_columns(connection: Connection[Record], relation: str) -> dict[str, str]:
    """A relation's column names and types in order; empty if it does not exist."""
    records = await connection.fetch(RAW_COLUMNS, relation)
    return {record["name"]: record["type"] for record in records}


def compare(shape: Shape, raw: dict[str, str], where: str) -> list[SchemaChange]:
    """The changes of the source's columns against raw.

    Raises:
        SchemaDrift: a column now has another type; converting it silently could change values.
    """
    changes = differences(shape, raw)
    for change in changes:
        if change.change == "retyped":
            raise retyped(change, where)
    return changes


def retyped(change: SchemaChange, where: str) -> SchemaDrift:
    """The error for a column whose type changed."""
    return SchemaDrift(
        f"column {change.column} is now {change.new_type} at the source and {change.old_type} in raw",
        where=where,
        fix="check the source's change; then alter the raw column (and its dbt model), "
        f"or load a new raw table: `medallion reload {where} --recreate`",
    )


def differences(shape: Shape, raw: dict[str, str]) -> list[SchemaChange]:
    """The changes of the source's columns against raw. A rename is a drop and an add, never guessed."""
    changes = []
    for column in shape.columns:
        known = raw.get(column.name)
        if known is None:
            changes.append(SchemaChange(column.name, "added", None, column.raw_type))
        elif known != column.raw_type:
            changes.append(SchemaChange(column.name, "retyped", known, column.raw_type))
    gone = [name for name in raw if shape.column(name) is None and name not in METADATA_NAMES]
    return changes + [SchemaChange(name, "dropped", raw[name], None) for name in gone]


async def evolve(connection: Connection[Record], target: Target, changes: list[SchemaChange]) -> None:
    """Add new columns to raw, and widen types. Dropped columns are kept, with their last values.

    Runs in the publishing transaction.
    """
    for change in changes:
        name = quote_identifier(change.column)
        if change.change == "added":
            await connection.execute(f"alter table {target.raw} add column {name} {change.new_type}")
        elif change.change == "retyped":
            await connection.execute(f"alter table {target.raw} alter column {name} type {change.new_type}")


async def views_on(connection: Connection[Record], target: Target, column: str) -> list[str]:
    """The views that read a column of raw: PostgreSQL cannot change its type then."""
    records = await connection.fetch(
        "select distinct v.oid::regclass::text as name from pg_depend as d "
        "inner join pg_rewrite as r on d.objid = r.oid and d.classid = 'pg_rewrite'::regclass "
        "inner join pg_class as v on r.ev_class = v.oid "
        "inner join pg_attribute as a on d.refobjid = a.attrelid and d.refobjsubid = a.attnum "
        "where d.refobjid = to_regclass($1) and a.attname = $2 order by 1",
        target.raw,
        column,
    )
    return [record["name"] for record in records]


async def ensure_types(connection: Connection[Record], target: Target, shape: Shape) -> list[SchemaChange]:
    """Create raw's schema and the enums of its columns. Commits separately: a new label is usable only after that."""
    changes = []
    async with connection.transaction():
        # Tables of one source are loaded in parallel, and `if not exists` alone fails if two create the same.
        # A lock that only the loader may take, and that conflicts only with itself and an upgrade.
        await connection.execute("lock table ops.schema_version in share update exclusive mode")
        # `if not exists` needs the create privilege even if there is nothing to do.
        if not await connection.fetchval("select to_regnamespace($1) is not null", quote_identifier(target.raw_schema)):
            await connection.execute(f"create schema {quote_identifier(target.raw_schema)}")
        for column in shape.columns:
            if column.enum is not None:
                changes += await _ensure_enum(connection, target, column, column.enum)
    return changes


async def _ensure_enum(connection: Connection[Record], target: Target, column: Column, enum: str) -> list[SchemaChange]:
    known = [record["label"] for record in await connection.fetch(_ENUM_LABELS, target.raw_schema, enum)]
    if not known:
        labels = ", ".join(quote_literal(label) for label in column.labels)
        await connection.execute(f"create type {column.raw_type} as enum ({labels})")
        return []
    changes = []
    for position, label in enumerate(column.labels):
        if label not in known:
            place = f" before {quote_literal(known[0])}" if position == 0 else ""
            if position > 0:
                place = f" after {quote_literal(column.labels[position - 1])}"
            await connection.execute(
                f"alter type {column.raw_type} add value if not exists {quote_literal(label)}{place}"
            )
            known.append(label)
            changes.append(SchemaChange(column.name, "label added", None, label))
    return changes


async def create_landing(
    connection: Connection[Record], target: Target, shape: Shape, *, first: bool, bare: bool = False
) -> None:
    """An empty landing table with raw's columns; `bare`: without the metadata columns, see `stamp_landing`.

    The first load's landing table becomes raw, so it is logged; any other is unlogged, since a crash only means reading
    again.
    """
    columns = [f"{quote_identifier(column.name)} {column.raw_type}" for column in shape.columns]
    if not bare:
        # Later, each would need a scan.
        columns += [
            f"{quote_identifier(name)} {kind}{' not null' if first and name != '_deleted_at' else ''}"
            for name, kind in METADATA
        ]
    await connection.execute(f"drop table if exists {target.landing}")
    kind = "table" if first else "unlogged table"
    await connection.execute(f"create {kind} {target.landing} ({', '.join(columns)})")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The metadata of a load's rows: when they were read from the source, in ISO 8601, and the batch id."""

    extracted_at: str
    batch_id: int


async def stamp_landing(connection: Connection[Record], target: Target, stamp: Stamp) -> None:
    """Add the metadata columns to a bare landing table. Rows that land later get the newest stamp.

    The default of a column added to existing rows is stored once, in PostgreSQL's catalog: written into each of
    2 million rows, it took 1.2 of 7.7 CPU seconds, and a seventh of the table.
    """
    stamps = {
        "_extracted_at": f"{quote_literal(stamp.extracted_at)}::timestamptz",
        "_source_system": quote_literal(target.source),
        "_batch_id": str(stamp.batch_id),
        "_deleted_at": "null",
    }
    if "_batch_id" in await relation_columns(connection, target.landing):
        actions = [f"alter column {name} set default {value}" for name, value in stamps.items()]
    else:
        required = {name: "" if value == "null" else f" not null default {value}" for name, value in stamps.items()}
        actions = [f"add column {name} {kind}{required[name]}" for name, kind in METADATA]
    await connection.execute(f"alter table {target.landing} {', '.join(actions)}")


async def adopt_landing(connection: Connection[Record], target: Target, keys: tuple[str, ...]) -> None:
    """Turn the first load's landing table into the raw table, in the publishing transaction."""
    await connection.execute(f"alter table {target.landing} set schema {quote_identifier(target.raw_schema)}")
    moved = qualified(target.raw_schema, target.landing_name)
    await connection.execute(f"alter table {moved} rename to {quote_identifier(target.table)}")
    # Rows keep their default stamp; later rows must not get it by omission.
    dropped = ", ".join(f"alter column {quote_identifier(name)} drop default" for name in METADATA_NAMES)
    await connection.execute(f"alter table {target.raw} {dropped}")
    if keys:
        # Last, so that PostgreSQL chooses an index name that a renamed table does not use.
        await connection.execute(f"alter table {target.raw} add primary key ({column_list(keys)})")
    # Rough statistics immediately, for current readers; autovacuum refines them. 0.1 s of 0.4 on 2 million rows.
    await connection.execute(f"set local default_statistics_target = {_ROUGH_STATISTICS}")
    await connection.execute(f"analyze {target.raw}")
