"""Whether a load would be refused for what it would delete, as far as counts of both ends tell before it."""

from __future__ import annotations

from flows.declare import Replace
from flows.declare.table import Table
from flows.landing.table import Target
from flows.publish.deletes import refuse_too_many
from flows.publish.write import ShrinkageLimit, refuse_shrinkage
from flows.values.errors import DataRefused


def refusal_by_counts(table: Table, target: Target, at_source: int, held: int) -> str | None:
    """Why a load of the table would be refused, or None.

    At least as many rows of raw are gone as the source has fewer; rows that came meanwhile hide others.
    """
    try:
        if isinstance(table.load, Replace):
            refuse_shrinkage(target, held, ShrinkageLimit(at_source, table.load.min_share))
        elif table.deletes:
            refuse_too_many(max(0, held - at_source), held, table.max_deleted, target.where)
    except DataRefused as refused:
        return refused.what.removesuffix("; nothing was published")
    return None
