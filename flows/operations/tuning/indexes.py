"""Find rows without a scan: an index at the source for the cursor, or in raw for the partition column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.declare import Overwrite
from flows.declare.source import Loadable, Source
from flows.kinds.answers import SourceFacts
from flows.landing.table import Target
from flows.operations.tuning.history import TableHistory
from flows.operations.tuning.reading import SMALL_ROWS
from flows.operations.tuning.recommendation import Recommendation, percent
from flows.values.identifiers import qualified, quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: An index that finds more of the table than this is not used.
_FEW = 0.2
#: A load of partitions looks for raw's rows to compare, to count, and for what must not shrink.
_SCANS_PER_LOAD = 3
_PATIENCE_MS = 30_000
_LONGEST_NAME = 63

_IN_RAW = """
select
    greatest(c.reltuples, 0)::bigint as rows,
    exists (
        select from pg_index as i
        inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = c.oid and i.indisvalid and i.indpred is null and a.attname = $2
    ) as indexed,
    (
        select l.window_lower from ops.loads as l
        where l.source_system = $3 and l.table_name = $4 and l.status = 'published' and l.strategy = 'overwrite'
        order by l.batch_id desc limit 1
    ) as since
from pg_class as c where c.oid = to_regclass($1)
"""


@dataclass(frozen=True, slots=True)
class Scanned:
    """How a query of the warehouse was carried out: pages touched, seconds, rows found, and whether by a scan."""

    pages: int
    seconds: float
    rows: int
    reads_all: bool


def source_index(source: Source, table: Loadable, history: TableHistory, facts: SourceFacts) -> Recommendation | None:
    """For a table whose changed rows the source finds by a scan; None if it is small, or an index would find most."""
    scan = facts.scan
    if scan is None or not history.is_known or not scan.reads_all or facts.rows < SMALL_ROWS:
        return None
    if scan.wanted > _FEW * facts.rows:
        return None
    return Recommendation(
        "source-index",
        history.name,
        f"index {scan.column} at the source: each load scans the table for its changed rows",
        "source",
        scan.index,
        scan.undo,
        history.seconds_a_day * scan.share,
        f"{history.seconds_a_day:,.0f} s a day * {percent(scan.share)} of the cost that the source's planner "
        "expects of a load; at most, because writing takes time too",
        "medium",
        "the source maintains one more index on each write; its owner must create it",
        f"the planner of the source scans {facts.rows:,} rows ({facts.bytes / 1e6:,.0f} MB) to find {scan.wanted:,}; "
        f"no index begins with {scan.column}",
        history.loads,
        "seconds per load",
        {"rows scanned at the source": scan.wanted},
        source=source.name,
        table=table.name,
    )


async def raw_index(
    connection: Connection[Record], source: Source, table: Loadable, history: TableHistory
) -> Recommendation | None:
    """For a table loaded by partition, of which raw has no index; None if raw is small, or the partitions are most of
    it."""
    if not isinstance(table.load, Overwrite) or not history.is_known or history.strategy != "overwrite":
        return None
    target, by = Target(source.name, table.name, source.raw_schema), table.load.by
    raw = await connection.fetchrow(_IN_RAW, target.raw, by, source.name, table.name)
    if raw is None or raw["indexed"] or raw["since"] is None or raw["rows"] < SMALL_ROWS:
        return None
    column = quote_identifier(by)
    since = f"{column} >= {quote_literal(raw['since'])} or {column} is null or {column} = '-infinity'"
    probe = f"select count(*) from {target.raw} where {since}"
    found = await scanned(connection, probe)
    if not found.reads_all or found.rows > _FEW * raw["rows"]:
        return None
    name = _index_name(table.name, by)
    return Recommendation(
        "warehouse-index",
        history.name,
        f"index {by} in raw: each load scans raw for the rows of its partitions",
        "warehouse",
        f"create index concurrently {quote_identifier(name)} on {target.raw} ({column})",
        f"drop index concurrently if exists {qualified(source.raw_schema, name)}",
        found.seconds * _SCANS_PER_LOAD * history.per_day,
        f"{found.seconds * 1000:,.1f} ms measured per scan * {_SCANS_PER_LOAD} scans a load * "
        f"{history.per_day:,.1f} loads a day",
        "low",
        "loads maintain one more index, and it takes space in the warehouse",
        f"a scan of raw touches {found.pages:,} pages to find {found.rows:,} of {raw['rows']:,} rows; no index begins "
        f"with {by}",
        history.loads,
        "seconds per load",
        {"pages": None},
        source=source.name,
        table=table.name,
        probe=probe,
    )


async def scanned(connection: Connection[Record], query: str) -> Scanned:
    """Carry out a query of the warehouse, which must be a select, and see what it took."""
    async with connection.transaction(readonly=True):
        await connection.execute(f"set local statement_timeout = {_PATIENCE_MS}")
        told = await connection.fetchval(f"explain (analyze, buffers, timing off, format json) {query}")
    answer = json.loads(told)[0]
    top, nodes = answer["Plan"], list(_nodes(answer["Plan"]))
    found = max((node["Actual Rows"] * node["Actual Loops"] for node in nodes[1:] if not node.get("Plans")), default=0)
    return Scanned(
        int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"]),
        float(answer["Execution Time"]) / 1000,
        int(found),
        any(node["Node Type"] == "Seq Scan" for node in nodes),
    )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _index_name(table: str, column: str) -> str:
    name = f"{table}_{column}_tuned"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"tuned_x{hashlib.sha256(name.encode()).hexdigest()[:12]}"
