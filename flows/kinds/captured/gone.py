"""The landing table of keys that the source no longer has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.landing.table import LANDING_SCHEMA, Target
from flows.quality import open_rows, quarantine
from flows.values.identifiers import qualified, quote_identifier
from flows.values.shape import Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def gone_table(target: Target) -> str:
    """Its name, quoted."""
    return qualified(LANDING_SCHEMA, f"{target.landing_name}__g")


async def create_gone(warehouse: Connection[Record], target: Target, shape: Shape, keys: tuple[str, ...]) -> str:
    """Make it, empty; returns its name."""
    relation = gone_table(target)
    columns = [f"{quote_identifier(key)} {column.raw_type}" for key in keys if (column := shape.column(key))]
    await warehouse.execute(f"drop table if exists {relation}")
    await warehouse.execute(f"create unlogged table {relation} ({', '.join(columns)})")
    return relation


async def gone_of_truncate(warehouse: Connection[Record], target: Target, keys: tuple[str, ...], shape: Shape) -> None:
    """After a truncate, every row that the source has was recorded: raw's others are gone."""
    same = " and ".join(f"l.{quote_identifier(key)} = r.{quote_identifier(key)}" for key in keys)
    await warehouse.execute(
        f"insert into {gone_table(target)} select {column_list(keys, 'r')} from {target.raw} as r "
        f"where r._deleted_at is null and not exists (select from {target.landing} as l where {same})"
    )
    if await open_rows.count_open(warehouse, table=target.name):
        await quarantine.resolve_gone(warehouse, target.landing, shape, _kinds(keys, shape), table=target.name)


async def close_quarantined(warehouse: Connection[Record], target: Target, keys: tuple[str, ...], shape: Shape) -> None:
    """Quarantined rows that were deleted at the source leave quarantine."""
    if await open_rows.count_open(warehouse, table=target.name):
        gone = f"(select *, clock_timestamp() as _deleted_at from {gone_table(target)})"
        await quarantine.resolve(warehouse, gone, shape, _kinds(keys, shape), table=target.name)


def _kinds(keys: tuple[str, ...], shape: Shape) -> dict[str, str]:
    return {key: column.raw_type for key in keys if (column := shape.column(key))}
