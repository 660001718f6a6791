"""Dashboard operations: what needs somebody now."""

from deployments.monitoring.panels import OF, Board, Shown

OPERATIONS = Board(
    "operations.json",
    "medallion: operations",
    "What needs somebody now: servers, alerts, late data, queues.",
    (
        (
            "Now",
            (
                Shown(
                    "Warehouse",
                    "1: it answers",
                    ((f"min(medallion_warehouse_up{{{OF}}})", "up"),),
                    kind="stat",
                    bad_below=1,
                ),
                Shown(
                    "Alerts firing",
                    "errors and critical ones that nobody has acknowledged",
                    ((f'sum(medallion_alerts{{{OF}, status="firing", severity=~"error|critical"}})', "alerts"),),
                    kind="stat",
                    bad_from=1,
                ),
                Shown(
                    "Late",
                    "clocks of tables and models whose promise is broken",
                    ((f"sum(medallion_freshness_late{{{OF}}})", "late"),),
                    kind="stat",
                    bad_from=1,
                ),
                Shown(
                    "Tables that differ",
                    "the last load found that raw and source differ",
                    ((f"count(medallion_table_matches{{{OF}}} == 0) or vector(0)", "tables"),),
                    kind="stat",
                    bad_from=1,
                ),
                Shown(
                    "Rows in quarantine",
                    "rows that nobody has fixed or discarded",
                    ((f"sum(medallion_table_quarantine_rows{{{OF}}})", "rows"),),
                    kind="stat",
                ),
                Shown(
                    "Oldest message",
                    "age of the oldest alert message that no receiver has accepted",
                    ((f"max(medallion_alert_message_oldest_seconds{{{OF}}})", "age"),),
                    "s",
                    "stat",
                    bad_from=600,
                ),
            ),
        ),
        (
            "Alerts and freshness",
            (
                Shown(
                    "Open alerts",
                    "by severity and status",
                    ((f"sum by (severity, status) (medallion_alerts{{{OF}}})", "{{severity}} {{status}}"),),
                ),
                Shown(
                    "Time left",
                    "until a clock breaks its promise; below zero it is late",
                    (
                        (
                            f"bottomk(15, medallion_freshness_limit_seconds{{{OF}}} "
                            f"- (time() - medallion_freshness_timestamp_seconds{{{OF}}}))",
                            "{{subject}} {{clock}}",
                        ),
                    ),
                    "s",
                    bad_below=0,
                ),
            ),
        ),
        (
            "Warehouse and watch",
            (
                Shown(
                    "Connections",
                    "in use, and how many the server accepts",
                    (
                        (f"medallion_warehouse_connections{{{OF}}}", "in use"),
                        (f"medallion_warehouse_connections_max{{{OF}}}", "accepted"),
                    ),
                ),
                Shown(
                    "Size",
                    "of the warehouse's database",
                    ((f"medallion_warehouse_size_bytes{{{OF}}}", "size"),),
                    "bytes",
                ),
                Shown(
                    "Rounds of the watch",
                    "duration, and checks that failed",
                    (
                        (f"medallion_watch_round_duration_seconds{{{OF}}}", "seconds"),
                        (f"medallion_watch_checks_failed{{{OF}}}", "failed checks"),
                    ),
                ),
                Shown(
                    "Memory of the watch",
                    "of its process",
                    ((f'process_resident_memory_bytes{{{OF}, job="medallion"}}', "resident"),),
                    "bytes",
                ),
            ),
        ),
    ),
)
