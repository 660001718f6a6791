"""What a plan says that a load would refuse: by the declared shares, and the counts of both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare import Overwrite
from flows.kinds.postgres.plan import TablePlan
from flows.kinds.postgres.table import count
from flows.publish.overwrite import partition
from flows.publish.raw_rows import count_live
from flows.publish.refusal import refusal_by_counts
from flows.publish.write import FEW_ROWS

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def would_be_refused(
    warehouse: Connection[Record], origin: Connection[Record], planned: TablePlan, waiting: int
) -> str | None:
    """Why the planned load would be refused, or None. `waiting` rows are to be read."""
    table, target = planned.table, planned.target
    if isinstance(table.load, Overwrite):
        return await _shrunken_partition(warehouse, origin, planned, table.load)
    # A merge without a cursor, and a replace, read all rows, which were just counted.
    at_source = waiting if planned.window.condition == "true" else None
    if table.deletes and at_source is None:
        at_source = await count(origin, table)
    if at_source is None:
        return None
    return refusal_by_counts(table, target, at_source, await count_live(warehouse, target, "true"))


async def _shrunken_partition(
    warehouse: Connection[Record], origin: Connection[Record], planned: TablePlan, load: Overwrite
) -> str | None:
    if not load.min_share:
        return None
    shape = planned.plan.shape
    assert shape is not None  # plan_table always describes
    part = partition(load, shape)
    within = planned.window.condition
    at_source = planned.table.within(within)
    counts = f"select {part} as part, count(*) as rows from"
    relation = planned.table.relation
    came = {row["part"]: row["rows"] for row in await origin.fetch(f"{counts} {relation} where {at_source} group by 1")}
    held = await warehouse.fetch(
        f"{counts} {planned.target.raw} where _deleted_at is null and {within} "
        "group by 1 having count(*) >= $1 order by 1",
        FEW_ROWS,
    )
    for row in held:
        arrived = came.get(row["part"], 0)
        if arrived < row["rows"] * load.min_share:
            named = f"the {load.every} of {row['part'][:10]}" if row["part"] else f"rows without a value in {load.by}"
            return (
                f"{named}: the source has {arrived} rows and raw has {row['rows']}: fewer than the declared share of "
                f"{load.min_share:g}"
            )
    return None
