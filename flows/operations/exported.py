"""Metrics for Prometheus: what loads, runs, models, alerts and the warehouse are like now.

    text = exposition(await measured(connection))          in the text format of Prometheus

They are gauges of the state and of the last load, run and build: their number is bounded, and nothing is counted twice
after a restart. What each says: metric_registry.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from flows.declare.route import SEVERITIES
from flows.operations.freshness import FRESH, LATE, MISSED, Clocks, Reading
from flows.operations.metric import OUTCOMES
from flows.operations.metric_registry import METRICS, metric
from flows.sources import SOURCES
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from flows.operations.prefect_facts import PrefectFacts

_TABLES = Path(__file__).with_name("exported.sql").read_text(encoding="utf-8")
_RUNS = """
select
    r.pipeline, r.scope, r.status,
    extract(epoch from r.finished_at)::double precision as finished,
    extract(epoch from r.finished_at - r.started_at)::double precision as seconds,
    u.cpu_seconds, u.memory_bytes
from (
    select distinct on (pipeline, scope) * from ops.runs
    where finished_at is not null and started_at > clock_timestamp() - interval '31 days'
    order by pipeline, scope, run_id desc
) as r
left join ops.usage as u on u.kind = 'run' and u.scope = r.scope and u.name = r.pipeline
"""
_MODELS = """
select name as model, (status = 'success')::integer as success, seconds, rows,
    extract(epoch from ended_at)::double precision as ended
from ops.usage where kind = 'model' and ended_at > clock_timestamp() - interval '31 days' order by name
"""
_ALERTS = "select severity, status, count(*) from ops.alerts where resolved_at is null group by 1, 2"
_MESSAGES = """
select count(*) as waiting,
    coalesce(extract(epoch from clock_timestamp() - min(written_at)), 0)::double precision as oldest
from ops.alert_messages where sent_at is null and dropped_at is null
"""
_CIRCUITS = "select source_system as source, (state <> 'closed')::integer as open from ops.circuits"
_SLOTS = """
select slot_name as slot, pg_wal_lsn_diff(
    case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn
)::bigint as bytes
from pg_replication_slots where restart_lsn is not null order by slot_name
"""
_SERVER = """
select
    pg_database_size(current_database()) as bytes,
    (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
    current_setting('max_connections')::integer as allowed,
    extract(epoch from clock_timestamp())::double precision as now
"""
_Thing = TypeVar("_Thing")
_OF_TABLE, _OF_RUN = ("source", "table"), ("pipeline", "scope")
_STATE = {FRESH: 0, LATE: 1, MISSED: 1}


@dataclass(slots=True, eq=False)
class Samples:
    """Values of metrics by name and labels. Of each kind of object at most so many have series."""

    limit: int = field(default_factory=lambda: settings().metrics_objects)
    _values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict, init=False)

    def add(self, name: str, value: float | int | None, labels: Iterable[object] = ()) -> None:
        """A value; None is none."""
        if value is not None:
            self._values.setdefault(metric(name).name, {})[tuple(map(str, labels))] = float(value)

    def columns(self, rows: Iterable[Record], labels: Sequence[str], **columns: str) -> None:
        """Of each row, the metrics of the named columns."""
        for row in rows:
            for name, column in columns.items():
                self.add(name, row[column], [row[label] for label in labels])

    def bounded(self, of: str, things: Sequence[_Thing]) -> Sequence[_Thing]:
        """As many as the limit allows; how many that leaves out is a metric."""
        self.omitted(of, len(things) - self.limit)
        return things[: self.limit]

    def omitted(self, of: str, count: int) -> None:
        """So many objects of a kind are left out."""
        self.add("series_omitted", max(0, count), [of])

    def of(self, name: str) -> Mapping[tuple[str, ...], float]:
        """The values of a metric by its labels."""
        return self._values.get(name, {})

    def merge(self, others: Samples) -> None:
        """Take over the values of others."""
        for name, values in others._values.items():
            self._values.setdefault(name, {}).update(values)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The families of metrics that have a value, as prometheus_client asks for them."""
        for each in METRICS:
            if values := self._values.get(each.name):
                made = CounterMetricFamily if each.type == "counter" else GaugeMetricFamily
                family = made(each.full_name, each.meaning, labels=each.labels)
                for labels, value in sorted(values.items()):
                    family.add_metric(labels, value)
                yield family


def exposition(samples: Samples, registry: CollectorRegistry | None = None) -> bytes:
    """The metrics in the text format of Prometheus, after those that the registry has."""
    own = CollectorRegistry(auto_describe=False)
    own.register(samples)
    return (generate_latest(registry) if registry is not None else b"") + generate_latest(own)


async def measured(connection: Connection[Record], clocks: Clocks | None = None) -> Samples:
    """The metrics of the warehouse; needs schema `ops`. `clocks` remembers what only a load or build changes."""
    samples = Samples()
    await _loads(connection, samples)
    await _runs_and_models(connection, samples)
    await _alerts(connection, samples)
    await _server(connection, samples)
    _freshness(samples, await (clocks or Clocks()).read(connection, datetime.now(UTC)))
    return samples


async def _loads(connection: Connection[Record], samples: Samples) -> None:
    declared = [f"{source.name}.{table.name}" for source in SOURCES for table in source.tables]
    rows = await connection.fetch(_TABLES, declared, samples.limit)
    samples.omitted("tables", rows[0]["known"] - samples.limit if rows else 0)
    samples.columns(
        rows,
        _OF_TABLE,
        load_last_timestamp_seconds="finished",
        load_last_duration_seconds="seconds",
        load_last_size_bytes="bytes",
        load_last_cpu_seconds="cpu_seconds",
        load_last_memory_bytes="memory_bytes",
        table_source_rows="source_rows",
        table_raw_rows="raw_rows",
        table_matches="matches",
        table_quarantine_rows="in_quarantine",
    )
    for row in rows:
        for outcome in OUTCOMES:
            samples.add("load_last_rows", row[f"rows_{outcome}"], (row["source"], row["table"], outcome))


async def _runs_and_models(connection: Connection[Record], samples: Samples) -> None:
    runs = samples.bounded("runs", await connection.fetch(_RUNS))
    samples.columns(
        runs, (*_OF_RUN, "status"), run_last_timestamp_seconds="finished", run_last_duration_seconds="seconds"
    )
    samples.columns(runs, _OF_RUN, run_last_cpu_seconds="cpu_seconds", run_last_memory_bytes="memory_bytes")
    models = samples.bounded("models", await connection.fetch(_MODELS))
    samples.columns(
        models,
        ("model",),
        model_last_timestamp_seconds="ended",
        model_last_duration_seconds="seconds",
        model_last_rows="rows",
        model_last_success="success",
    )


async def _alerts(connection: Connection[Record], samples: Samples) -> None:
    for severity in SEVERITIES:  # 0 too: what is absent cannot be compared
        for status in ("firing", "acknowledged", "silenced"):
            samples.add("alerts", 0, (severity, status))
    samples.columns(await connection.fetch(_ALERTS), ("severity", "status"), alerts="count")
    samples.columns(
        await connection.fetch(_MESSAGES), (), alert_messages_waiting="waiting", alert_message_oldest_seconds="oldest"
    )


async def _server(connection: Connection[Record], samples: Samples) -> None:
    samples.columns(samples.bounded("circuits", await connection.fetch(_CIRCUITS)), ("source",), circuit_open="open")
    samples.columns(samples.bounded("slots", await connection.fetch(_SLOTS)), ("slot",), slot_retained_bytes="bytes")
    samples.columns(
        await connection.fetch(_SERVER),
        (),
        warehouse_size_bytes="bytes",
        warehouse_connections="connections",
        warehouse_connections_max="allowed",
        measured_timestamp_seconds="now",
    )


def _freshness(samples: Samples, readings: Sequence[Reading]) -> None:
    promised = [one for one in readings if one.state in _STATE or one.at is not None]
    for one in samples.bounded("freshness clocks", promised):
        labels = (one.subject, one.clock)
        samples.add("freshness_timestamp_seconds", one.at.timestamp() if one.at is not None else None, labels)
        samples.add("freshness_limit_seconds", one.within.total_seconds() if one.within is not None else None, labels)
        samples.add("freshness_late", _STATE.get(one.state), labels)


def of_prefect(samples: Samples, facts: PrefectFacts) -> None:
    """The metrics of the Prefect server."""
    pools = samples.bounded("work pools", sorted(facts.pools))
    for name in pools:
        samples.add("work_pool_polled", facts.pools[name].polled, [name])
        due = [run for run in facts.due if run.pool == name]
        begun = [run.type for run in facts.begun if run.pool == name]
        samples.add("pool_flow_runs", len(due), (name, "due"))
        samples.add("pool_flow_runs", begun.count("PENDING"), (name, "pending"))
        samples.add("pool_flow_runs", begun.count("RUNNING"), (name, "running"))
        waited = [(facts.answered_at - run.expected).total_seconds() for run in due]
        samples.add("flow_run_oldest_due_seconds", max(waited, default=0.0), [name])
    active = sorted((each for each in facts.deployments if each.active), key=lambda each: each.name)
    for deployment in samples.bounded("deployments", active):
        samples.add("deployment_planned", deployment.id in facts.planned, [deployment.name])
