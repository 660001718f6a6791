"""Dashboard tables: loads of each table."""

from deployments.monitoring.panels import TABLE, Board, Shown

TABLES = Board(
    "tables.json",
    "medallion: tables",
    "Loads of each table: rows, time, cost, and whether both ends match.",
    (
        (
            "Rows",
            (
                Shown(
                    "Rows of the last load",
                    "by what became of them",
                    ((f"sum by (outcome) (medallion_load_last_rows{{{TABLE}}})", "{{outcome}}"),),
                ),
                Shown(
                    "Rows at both ends",
                    "as of the last load",
                    (
                        (f"sum(medallion_table_source_rows{{{TABLE}}})", "source"),
                        (f"sum(medallion_table_raw_rows{{{TABLE}}})", "raw"),
                    ),
                ),
                Shown(
                    "Quarantine",
                    "rows that nobody has fixed or discarded",
                    ((f"topk(15, medallion_table_quarantine_rows{{{TABLE}}})", "{{source}}.{{table}}"),),
                ),
                Shown(
                    "Ends match",
                    "1: the last load found both ends to match",
                    ((f"bottomk(15, medallion_table_matches{{{TABLE}}})", "{{source}}.{{table}}"),),
                    bad_below=1,
                ),
            ),
        ),
        (
            "Cost",
            (
                Shown(
                    "Duration",
                    "of the last load",
                    ((f"topk(15, medallion_load_last_duration_seconds{{{TABLE}}})", "{{source}}.{{table}}"),),
                    "s",
                ),
                Shown(
                    "Rows per second",
                    "that the last load read",
                    (
                        (
                            f'topk(15, sum without (outcome) (medallion_load_last_rows{{{TABLE}, outcome="read"}}) '
                            f"/ medallion_load_last_duration_seconds{{{TABLE}}})",
                            "{{source}}.{{table}}",
                        ),
                    ),
                ),
                Shown(
                    "Bytes",
                    "that the last load read",
                    ((f"topk(15, medallion_load_last_size_bytes{{{TABLE}}})", "{{source}}.{{table}}"),),
                    "bytes",
                ),
                Shown(
                    "CPU",
                    "of the process during the last load",
                    ((f"topk(15, medallion_load_last_cpu_seconds{{{TABLE}}})", "{{source}}.{{table}}"),),
                    "s",
                ),
                Shown(
                    "Memory",
                    "peak of the process by the end of the last load",
                    ((f"topk(15, medallion_load_last_memory_bytes{{{TABLE}}})", "{{source}}.{{table}}"),),
                    "bytes",
                ),
                Shown(
                    "Age",
                    "time since the end of the last load",
                    (
                        (
                            f"topk(15, time() - medallion_load_last_timestamp_seconds{{{TABLE}}})",
                            "{{source}}.{{table}}",
                        ),
                    ),
                    "s",
                ),
            ),
        ),
    ),
    (
        ("environment", "medallion_watch_rounds_total"),
        ("source", "medallion_load_last_timestamp_seconds"),
        ("table", "medallion_load_last_timestamp_seconds"),
    ),
)
