"""Every metric. See docs/metrics.md.

metric("load_last_rows").full_name      medallion_load_last_rows
"""

from __future__ import annotations

from flows.operations.metric import OUTCOMES, Metric

_OF_TABLE, _OF_RUN, _OF_CLOCK = ("source", "table"), ("pipeline", "scope"), ("subject", "clock")

METRICS = (
    Metric(
        "load_last_timestamp_seconds",
        "End of the last published load, Unix time.",
        "seconds",
        _OF_TABLE,
        "When was the table last loaded?",
    ),
    Metric(
        "load_last_duration_seconds",
        "Duration of the last published load.",
        "seconds",
        _OF_TABLE,
        "Which loads take long, or longer than before?",
    ),
    Metric(
        "load_last_size_bytes",
        "Bytes that the last published load read.",
        "bytes",
        _OF_TABLE,
        "How much is moved, and how fast?",
    ),
    Metric(
        "load_last_rows",
        f"Rows of the last published load by outcome: {', '.join(OUTCOMES)}.",
        "rows",
        (*_OF_TABLE, "outcome"),
        "What became of the rows that were read?",
    ),
    Metric(
        "load_last_cpu_seconds",
        "CPU time of the process during the last load that a flow made, with other loads at the same time.",
        "seconds",
        _OF_TABLE,
        "Which tables cost CPU?",
    ),
    Metric(
        "load_last_memory_bytes",
        "Peak memory of the process by the end of that load, with all that it did before.",
        "bytes",
        _OF_TABLE,
        "How large must the machine of a flow run be?",
    ),
    Metric("table_source_rows", "Rows at the source, as of the last load.", "rows", _OF_TABLE, "How large is it?"),
    Metric("table_raw_rows", "Rows in raw, as of the last load.", "rows", _OF_TABLE, "Is raw as large as the source?"),
    Metric(
        "table_matches",
        "1 if the last load found both ends to match, else 0.",
        "1 or 0",
        _OF_TABLE,
        "Which tables differ from their source?",
    ),
    Metric(
        "table_quarantine_rows",
        "Rows in quarantine that nobody has fixed or discarded.",
        "rows",
        _OF_TABLE,
        "Where do refused rows pile up?",
    ),
    Metric(
        "freshness_timestamp_seconds",
        "What a clock of a table or model shows: its last load, newest event, or last build, Unix time.",
        "seconds",
        _OF_CLOCK,
        "How old are the data?",
    ),
    Metric(
        "freshness_limit_seconds",
        "How old the clock may be, as declared.",
        "seconds",
        _OF_CLOCK,
        "How much time is left before it is late?",
    ),
    Metric(
        "freshness_late",
        "1 if what is promised of the clock is broken, else 0.",
        "1 or 0",
        _OF_CLOCK,
        "Which tables and models are late?",
    ),
    Metric(
        "run_last_timestamp_seconds",
        "End of the last run, Unix time.",
        "seconds",
        (*_OF_RUN, "status"),
        "When did it last run, and how did it end?",
    ),
    Metric(
        "run_last_duration_seconds",
        "Duration of the last run.",
        "seconds",
        (*_OF_RUN, "status"),
        "Which runs take longer than before?",
    ),
    Metric(
        "run_last_cpu_seconds",
        "CPU time of the process and its children during the last run that ended by itself.",
        "seconds",
        _OF_RUN,
        "What does a run cost?",
    ),
    Metric(
        "run_last_memory_bytes",
        "Peak memory of the process by the end of that run.",
        "bytes",
        _OF_RUN,
        "How large must the machine of a flow run be?",
    ),
    Metric(
        "model_last_timestamp_seconds",
        "When the model was last built or attempted, Unix time.",
        "seconds",
        ("model",),
        "When was it built?",
    ),
    Metric(
        "model_last_duration_seconds",
        "Duration of that build.",
        "seconds",
        ("model",),
        "Which models take long?",
    ),
    Metric("model_last_rows", "Rows that this build wrote.", "rows", ("model",), "How much does a build write?"),
    Metric(
        "model_last_success",
        "1 if this build succeeded, else 0.",
        "1 or 0",
        ("model",),
        "Which models cannot be built?",
    ),
    Metric(
        "alerts", "Open alerts.", "alerts", ("severity", "status"), "What is wrong now, and does somebody work on it?"
    ),
    Metric(
        "alert_messages_waiting",
        "Messages of alerts that were not accepted yet.",
        "messages",
        (),
        "Are alerts delivered?",
    ),
    Metric(
        "alert_message_oldest_seconds",
        "Age of the oldest such message.",
        "seconds",
        (),
        "For how long are they not delivered?",
    ),
    Metric(
        "circuit_open",
        "1 if a source receives no requests because it failed repeatedly, else 0.",
        "1 or 0",
        ("source",),
        "Which APIs are left out for a while?",
    ),
    Metric(
        "slot_retained_bytes",
        "Write-ahead log that a replication slot of the warehouse retains.",
        "bytes",
        ("slot",),
        "Who lags, and will the disk fill?",
    ),
    Metric("warehouse_size_bytes", "Size of the warehouse's database.", "bytes", (), "How fast does it grow?"),
    Metric(
        "warehouse_connections",
        "Sessions of clients at the warehouse's server.",
        "sessions",
        (),
        "Are there enough connections?",
    ),
    Metric(
        "warehouse_connections_max",
        "Sessions that this server accepts.",
        "sessions",
        (),
        "Are there enough connections?",
    ),
    Metric(
        "measured_timestamp_seconds",
        "When the metrics of the warehouse were measured, Unix time.",
        "seconds",
        (),
        "How old are these metrics?",
    ),
    Metric(
        "series_omitted",
        "Tables, models and others that are left out because there are more than the limit.",
        "objects",
        ("of",),
        "Are all tables here?",
    ),
    Metric(
        "prefect_up",
        "1 if the Prefect server answers as ours, else 0.",
        "1 or 0",
        (),
        "Can runs start?",
        "Prefect server",
    ),
    # deployments/queue_depth.py has `medallion_flow_runs`, for KEDA.
    Metric(
        "pool_flow_runs",
        "Flow runs of our deployments by state: due, pending, running. Due ones should have begun.",
        "runs",
        ("pool", "state"),
        "How long is the queue?",
        "Prefect server",
    ),
    Metric(
        "flow_run_oldest_due_seconds",
        "For how long the oldest due run has waited.",
        "seconds",
        ("pool",),
        "Is the queue worked off?",
        "Prefect server",
    ),
    Metric(
        "work_pool_polled",
        "1 if a worker has sent a heartbeat lately, else 0.",
        "1 or 0",
        ("pool",),
        "Are workers alive?",
        "Prefect server",
    ),
    Metric(
        "deployment_planned",
        "1 if an active deployment has a next run, else 0.",
        "1 or 0",
        ("deployment",),
        "Does the scheduler work?",
        "Prefect server",
    ),
    Metric("warehouse_up", "1 if the warehouse answers, else 0.", "1 or 0", (), "Is it there?", "watch"),
    Metric(
        "warehouse_measured",
        "1 if its metrics were measured in this round or lately, else 0; then they are left out.",
        "1 or 0",
        (),
        "Why are there no metrics of tables?",
        "watch",
    ),
    Metric(
        "watch_round_timestamp_seconds",
        "End of the last round of the watch, Unix time.",
        "seconds",
        (),
        "Does the watch look?",
        "watch",
    ),
    Metric("watch_round_duration_seconds", "Duration of that round.", "seconds", (), "Is it slow?", "watch"),
    Metric(
        "watch_rounds_total",
        "Rounds since it started.",
        "rounds",
        (),
        "Was it restarted?",
        "watch",
        "counter",
    ),
    Metric(
        "watch_checks_failed",
        "Checks that failed or hung in that round.",
        "checks",
        (),
        "Is there something that it cannot see?",
        "watch",
    ),
)
_BY_NAME = {each.name: each for each in METRICS}


def metric(name: str) -> Metric:
    """The metric of that name, without the prefix."""
    return _BY_NAME[name]
