"""Partition overwrite: raw's rows of some partitions become the landed ones, in the publishing transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare.load import Overwrite
from flows.landing.copy import differences_table
from flows.landing.table import LANDING_SCHEMA, Target
from flows.publish.shown_keys import about_deletes, digest_of_keys
from flows.publish.write import FEW_ROWS, Published, Scope, replace
from flows.values.asking import refuse
from flows.values.errors import DataRefused
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.shape import METADATA_NAMES, Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def in_zone(raw_type: str, zone: str) -> bool:
    """Whether days of a column of that type begin at another time than in our sessions, which are in UTC."""
    return "with time zone" in raw_type and zone.upper() != "UTC"


def partition_start(load: Overwrite, raw_type: str) -> str:
    """SQL over a row: the local start of its partition; null for a row without a value."""
    name = quote_identifier(load.by)
    if in_zone(raw_type, load.zone):
        name = f"{name} at time zone {quote_literal(load.zone)}"
    return f"date_trunc('{load.every}', {name})"


def partition(load: Overwrite, shape: Shape) -> str:
    """SQL over a row: the start of its partition as text, empty for a row without a value."""
    column = shape.column(load.by)
    assert column is not None  # describe() has refused a table without it
    return f"coalesce({partition_start(load, column.raw_type)}::text, '')"


async def overwrite(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    load: Overwrite,
    within: str,
    kept: str = "false",
) -> Published:
    """Make raw's rows under `within`, SQL over raw's columns, equal to the landing table.

    With a key as in `replace`: only differing rows are written, and a row of another partition moves.
    Without a key, differing partitions are rewritten, and all others are not touched.
    """
    if keys:
        return await replace(connection, target, shape, keys, scope=Scope(within, kept))
    differing, part = qualified(LANDING_SCHEMA, differences_table(target)), partition(load, shape)
    image = f"{part} as part, md5(row({column_list(shape.compared)})::text) as image, count(*) as times"
    await connection.execute(f"drop table if exists {differing}")
    await connection.execute(
        f"create unlogged table {differing} as select distinct part from "
        f"(select {image} from {target.landing} group by 1, 2) as l full join "
        f"(select {image} from {target.raw} where {within} group by 1, 2) as r using (part, image, times) "
        "where l.image is null or r.image is null"
    )
    await connection.execute(f"analyze {differing}")
    differs = f"{part} in (select d.part from {differing} as d)"
    names = column_list([*shape.names, *METADATA_NAMES])
    deleted = await connection.execute(f"delete from {target.raw} where {within} and {differs}")
    inserted = await connection.execute(
        f"insert into {target.raw} ({names}) select {names} from {target.landing} where {differs}"
    )
    staged = await connection.fetchval(f"select count(*) from {target.landing}")
    await connection.execute(f"drop table {differing}")
    written = int(inserted.split()[-1])
    return Published(inserted=written, unchanged=staged - written, deleted=int(deleted.split()[-1]))


async def refuse_shrunken_partition(
    connection: Connection[Record],
    target: Target,
    shape: Shape,
    keys: tuple[str, ...],
    load: Overwrite,
    within: str,
) -> None:
    """Stop an overwrite that would drop most of a partition. Runs while all arrived rows are in the landing table.

    Partitions with fewer than 100 rows in raw are exempt: a single order may move to another day.

    Raises:
        DataRefused: fewer rows of a partition arrived than the declared share of raw's rows.
    """
    if not load.min_share:
        return
    counts = f"select {partition(load, shape)} as part, count(*) as rows from"
    row = await connection.fetchrow(
        f"with held as ({counts} {target.raw} where _deleted_at is null and {within} "
        "group by 1 having count(*) >= $2), "
        f"came as ({counts} {target.landing} where {within} group by 1) "
        "select left(h.part, 10) as day, h.rows as held, coalesce(c.rows, 0) as came, count(*) over () as such, "
        "(sum(h.rows - coalesce(c.rows, 0)) over ())::bigint as deleted, "
        "array_agg(left(h.part, 10)) over () as parts "
        "from held as h left join came as c using (part) where coalesce(c.rows, 0) < h.rows * $1::float8 "
        "order by h.part limit 1",
        load.min_share,
        FEW_ROWS,
    )
    if row is None:
        return
    named = f"the {load.every} of {row['day']}" if row["day"] else f"rows without a value in {load.by}"
    others = f" ({row['such'] - 1} more partitions as well)" if row["such"] > 1 else ""
    error = DataRefused(
        f"{named}: {row['came']} rows arrived and raw has {row['held']}: fewer than the declared share of "
        f"{load.min_share:g}{others}; nothing was published",
        where=target.where,
        fix="check the source; if the rows are really deleted, lower Overwrite(min_share=…) for one run",
    )
    images = f"select md5(row({column_list(keys or shape.names)})::text) as image from"
    lost = f"({images} {target.raw} where _deleted_at is null and {within} except all {images} {target.landing}) as g"
    shown = await digest_of_keys(connection, lost, ["image"])
    share, parts = round(1 - load.min_share, 6), sorted(row["parts"])
    refuse(error, about_deletes(share, row["deleted"], shown, partitions=parts))
