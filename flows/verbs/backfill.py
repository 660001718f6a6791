"""A part of a table read again, partition by partition, whatever its kind; a kind that cannot says so."""

from __future__ import annotations

from flows.access import addresses
from flows.declare.partition import Partition
from flows.declare.source import Loadable, Source
from flows.kinds.answers import Ends
from flows.kinds.registry import kind_of
from flows.publish.session import LoadResult, Progress
from flows.values.row_limit import refuse_limit


def dividing_column(source: Source, table: Loadable, column: str | None) -> str:
    """The column that divides the table into partitions: `column`, or the one that its declaration names.

    Raises:
        DeclarationError: the table cannot be read by partition.
    """
    refuse_limit("a backfill reads full partitions", f"{source.name}.{table.name}")
    return kind_of(source).refuse_backfill(source, table, column)


async def count_partitions(
    source: Source, table: Loadable, column: str, wanted: list[Partition]
) -> tuple[list[tuple[Partition, int, int]], bool]:
    """What a backfill would read: (partition, rows at the source, live rows in raw); and whether an index helps.

    Raises:
        MedallionError: an end does not answer, or the column cannot divide the table.
    """
    return await kind_of(source).count_partitions(_ends(source, table), column, wanted)


async def backfill_partition(
    source: Source,
    table: Loadable,
    column: str,
    partition: Partition,
    backfill_id: int,
    *,
    run_id: int | None = None,
    on_progress: Progress | None = None,
) -> LoadResult:
    """Make raw's rows of the partition what the source holds now; the ledger has it as strategy `backfill`.

    Raises:
        MedallionError: see `flows.values.errors`; nothing partial is left.
    """
    refuse_limit("a backfill reads full partitions", f"{source.name}.{table.name}")
    ends = _ends(source, table)
    return await kind_of(source).backfill(ends, column, partition, backfill_id, run_id, on_progress)


def _ends(source: Source, table: Loadable) -> Ends[Source, Loadable]:
    return Ends(addresses.warehouse(), kind_of(source).address(source), source, table)
