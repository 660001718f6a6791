"""How long what is kept: what `medallion retain` deletes. What is not listed stays.

Rows that the source has are never listed: the next load would bring them back. Models are built of raw, and end as it
does.
"""

from flows.spec.retention import Keep

RETENTION = (
    Keep("raw_*.*", days=400, by="_deleted_at", why="rows that are gone at the source"),
    Keep("snapshots.*", days=3650, by="dbt_valid_to", why="versions that were replaced"),
    Keep("quarantine.rows", days=90, by="resolved_at", why="refused rows that came in, or were taken back"),
    Keep("ops.errors", days=400, by="occurred_at"),
    Keep("ops.check_results", days=400, by="checked_at"),
    Keep("ops.reconciliations", days=400, by="reconciled_at", why="they name keys"),
    Keep(
        "ops.chunks",
        days=90,
        by="committed_at",
        condition="batch_id in (select batch_id from ops.loads where status <> 'running')",
    ),
)

#: Landing tables of loads that ended so long ago, and files with results of runs. Days.
LANDING_DAYS = 7
RESULT_DAYS = 30
