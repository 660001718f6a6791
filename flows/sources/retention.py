"""Retention periods for `medallion purge --delete` and the nightly deployment `purge`. Everything else is kept.

Rows that exist at the source are never listed: the next load would bring them back. Models follow raw.
"""

from flows.declare import Keep

RETENTION = (
    Keep("raw_*.*", days=400, by="_deleted_at", why="rows deleted at the source"),
    Keep(
        "snapshots.households_snapshot",
        days=3650,
        by="dbt_valid_to",
        why="traits of superseded versions",
        clears=(
            "age_band",
            "income_band",
            "home_ownership",
            "marital_status",
            "household_size",
            "household_composition",
            "kids_count",
        ),
    ),
    # A row fixed by hand or discarded, which the source still has, would come again as a new one. Fixes go with it.
    Keep(
        "quarantine.rows",
        days=90,
        by="resolved_at",
        why="quarantined rows that were released or withdrawn",
        condition="not withheld",
    ),
    Keep("ops.alert_messages", days=90, by="written_at", condition="coalesce(sent_at, dropped_at) is not null"),
    Keep("ops.alerts", days=400, by="resolved_at"),
    Keep(
        "ops.incidents",
        days=400,
        by="closed_at",
        why="incidents without alerts",
        condition="not exists (select from ops.alerts as a where a.incident_id = incidents.incident_id)",
    ),
    Keep(
        "ops.silences",
        days=400,
        by="ended_at",
        condition="not exists (select from ops.alerts as a where a.silence_id = silences.silence_id)",
    ),
    Keep("ops.errors", days=400, by="occurred_at"),
    Keep("ops.check_results", days=400, by="checked_at"),
    # 400 bytes per load and column; what they say by day is kept longer.
    Keep(
        "ops.profiles",
        days=90,
        by="profiled_at",
        why="profiles of loads; those of days remain",
        condition="exists (select from ops.profile_days as d where d.source_system = profiles.source_system "
        "and d.table_name = profiles.table_name and d.day = (profiles.profiled_at at time zone 'UTC')::date) "
        "or strategy in ('initial', 'reload', 'backfill', 'repair', 'limited', 'replay')",
    ),
    Keep("ops.profile_days", days=800, by="day"),
    Keep("ops.anomalies", days=800, by="day"),
    Keep("ops.usage_days", days=800, by="day"),
    Keep("ops.change_counts", days=400, by="noted_at"),
    Keep("ops.reconciliations", days=400, by="reconciled_at", why="they contain keys"),
    Keep(
        "ops.chunks",
        days=90,
        by="committed_at",
        condition="batch_id in (select batch_id from ops.loads where status <> 'running')",
    ),
    # 2 kB each: a hundred tables per hour are 1.7 GB per year. Rows of raw and quarantine refer to their load.
    Keep(
        "ops.loads",
        days=400,
        by="finished_at",
        why="loads that changed nothing, except the latest per table",
        condition="status <> 'running' and coalesce(rows_inserted, 0) + coalesce(rows_updated, 0) "
        "+ coalesce(rows_deleted, 0) + coalesce(rows_quarantined, 0) = 0 and exists (select from ops.loads as later "
        "where later.source_system = loads.source_system and later.table_name = loads.table_name "
        "and later.batch_id > loads.batch_id and later.status = 'published' "
        "and later.strategy not in ('repair', 'replay', 'backfill', 'limited')) "
        "and batch_id not in (select batch_id from ops.reads) and batch_id not in (select batch_id from ops.chunks)",
    ),
    Keep(
        "ops.runs",
        days=400,
        by="finished_at",
        why="runs without any other record",
        condition="not exists (select from ops.loads as l where l.run_id = runs.run_id) "
        "and not exists (select from ops.check_results as c where c.run_id = runs.run_id) "
        "and not exists (select from ops.reconciliations as r where r.run_id = runs.run_id) "
        "and not exists (select from ops.recoveries as v where v.run_id = runs.run_id) "
        "and not exists (select from ops.errors as e where e.run_id = runs.run_id) "
        "and not exists (select from ops.dbt_manifests as m where m.run_id = runs.run_id) "
        "and not exists (select from ops.releases as g where runs.run_id in (g.run_id, g.replaced_run_id))",
    ),
)

#: Days: landing tables of loads that ended; files with results of runs, and dbt's folders of private builds.
LANDING_DAYS = 7
RESULT_DAYS = 30
