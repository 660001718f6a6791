"""Metrics for Prometheus: what loads, runs, alerts and the warehouse are like now.

    text = await exposition(connection)          in the text format of Prometheus

They are gauges of the state and of the last load and run: their number is bounded by that of tables and pipelines, and
nothing is counted twice after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_TABLES = Path(__file__).with_name("exported.sql").read_text(encoding="utf-8")
_RUNS = """
select
    r.pipeline, r.scope, r.status,
    extract(epoch from r.finished_at)::double precision as finished,
    extract(epoch from r.finished_at - r.started_at)::double precision as seconds
from (
    select distinct on (pipeline, scope) * from ops.runs
    where finished_at is not null and started_at > clock_timestamp() - interval '31 days'
    order by pipeline, scope, run_id desc
) as r
"""
_ALERTS = "select severity, status, count(*) from ops.alerts where resolved_at is null group by 1, 2"
_MESSAGES = """
select count(*) as waiting,
    coalesce(extract(epoch from clock_timestamp() - min(written_at)), 0)::double precision as oldest
from ops.alert_messages where sent_at is null and dropped_at is null
"""
_CIRCUITS = "select source_system as source, (state <> 'closed')::integer as open from ops.circuits"
_SERVER = """
select
    pg_database_size(current_database()) as bytes,
    (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
    current_setting('max_connections')::integer as allowed,
    extract(epoch from clock_timestamp())::double precision as now
"""
_ROWS = ("read", "inserted", "updated", "unchanged", "deduplicated", "quarantined", "deleted")
_OF_TABLE = ("source", "table")


@dataclass(frozen=True, eq=False)
class _Facts:
    """What a registry collects: families that were made before it was asked."""

    families: tuple[GaugeMetricFamily, ...]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All families."""
        yield from self.families


async def exposition(connection: Connection[Record]) -> bytes:
    """The metrics in the text format of Prometheus; needs schema `ops`."""
    tables = await connection.fetch(_TABLES)
    runs = await connection.fetch(_RUNS)
    alerts = await connection.fetch(_ALERTS)
    messages = await connection.fetchrow(_MESSAGES)
    circuits = await connection.fetch(_CIRCUITS)
    server = await connection.fetchrow(_SERVER)
    assert messages is not None
    assert server is not None
    registry = CollectorRegistry(auto_describe=False)
    families = (
        *_tables([dict(row) for row in tables]),
        *_runs([dict(row) for row in runs]),
        _family(
            "alerts", "Open alerts.", ("severity", "status"), [(row.values(), row["count"]) for row in alerts], cut=2
        ),
        _single("alert_messages_waiting", "Messages of alerts that were not accepted yet.", messages["waiting"]),
        _single("alert_message_oldest_seconds", "Age of the oldest such message.", messages["oldest"]),
        _family(
            "circuit_open",
            "1 if a source receives no requests because it failed repeatedly.",
            ("source",),
            [((row["source"],), row["open"]) for row in circuits],
        ),
        _single("warehouse_size_bytes", "Size of the warehouse's database.", server["bytes"]),
        _single("warehouse_connections", "Sessions of clients at the warehouse's server.", server["connections"]),
        _single("warehouse_connections_max", "Sessions that this server accepts.", server["allowed"]),
        _single("measured_timestamp_seconds", "When these metrics were measured, Unix time.", server["now"]),
    )
    registry.register(_Facts(families))
    return generate_latest(registry)


def _tables(found: Iterable[Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
    rows = [*found]

    def of_table(name: str, what: str, column: str) -> GaugeMetricFamily:
        known = [(tuple(row[label] for label in _OF_TABLE), row[column]) for row in rows if row[column] is not None]
        return _family(name, what, _OF_TABLE, known)

    yield of_table("load_last_timestamp_seconds", "End of the last published load, Unix time.", "finished")
    yield of_table("load_last_duration_seconds", "Duration of the last published load.", "seconds")
    yield of_table("load_last_size_bytes", "Bytes that the last published load read.", "bytes")
    yield _family(
        "load_last_rows",
        "Rows of the last published load, by what became of them.",
        (*_OF_TABLE, "outcome"),
        [
            ((row["source"], row["table"], outcome), row[f"rows_{outcome}"])
            for row in rows
            for outcome in _ROWS
            if row[f"rows_{outcome}"] is not None
        ],
    )
    yield of_table("table_source_rows", "Rows at the source, as of the last load.", "source_rows")
    yield of_table("table_raw_rows", "Rows in raw, as of the last load.", "raw_rows")
    yield of_table("table_matches", "1 if the last load found both ends to match.", "matches")
    yield of_table("table_quarantine_rows", "Rows in quarantine that nobody has fixed or discarded.", "in_quarantine")


def _runs(found: Iterable[Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
    rows = [*found]
    labels = ("pipeline", "scope", "status")
    for name, what, column in (
        ("run_last_timestamp_seconds", "End of the last run, Unix time.", "finished"),
        ("run_last_duration_seconds", "Duration of the last run.", "seconds"),
    ):
        yield _family(name, what, labels, [(tuple(row[label] for label in labels), row[column]) for row in rows])


def _family(
    name: str,
    what: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[Iterable[Any], Any]],
    *,
    cut: int | None = None,
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"medallion_{name}", what, labels=labels)
    for found, value in values:
        family.add_metric([str(label) for label in [*found][:cut]], float(value))
    return family


def _single(name: str, what: str, value: float) -> GaugeMetricFamily:
    return _family(name, what, (), [((), value)])
