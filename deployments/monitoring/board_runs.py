"""Dashboard runs: runs of pipelines and builds of models."""

from deployments.monitoring.panels import OF, Board, Shown

RUNS = Board(
    "runs.json",
    "medallion: runs and models",
    "Runs of pipelines and builds of models: how they ended, how long they took, what they used.",
    (
        (
            "Runs",
            (
                Shown(
                    "Duration",
                    "of the last run of each pipeline",
                    (
                        (
                            f"topk(15, medallion_run_last_duration_seconds{{{OF}}})",
                            "{{pipeline}} {{scope}} {{status}}",
                        ),
                    ),
                    "s",
                ),
                Shown(
                    "Age",
                    "time since the end of the last run",
                    (
                        (
                            f"topk(15, time() - medallion_run_last_timestamp_seconds{{{OF}}})",
                            "{{pipeline}} {{scope}}",
                        ),
                    ),
                    "s",
                ),
                Shown(
                    "CPU",
                    "of the process and its children during the last run",
                    ((f"topk(15, medallion_run_last_cpu_seconds{{{OF}}})", "{{pipeline}} {{scope}}"),),
                    "s",
                ),
                Shown(
                    "Memory",
                    "peak of the process by the end of the last run",
                    ((f"topk(15, medallion_run_last_memory_bytes{{{OF}}})", "{{pipeline}} {{scope}}"),),
                    "bytes",
                ),
            ),
        ),
        (
            "Models",
            (
                Shown(
                    "Duration",
                    "of the last build of each model",
                    ((f"topk(15, medallion_model_last_duration_seconds{{{OF}}})", "{{model}}"),),
                    "s",
                ),
                Shown(
                    "Could not be built",
                    "models whose last build failed",
                    ((f"count(medallion_model_last_success{{{OF}}} == 0) or vector(0)", "models"),),
                    kind="stat",
                    bad_from=1,
                ),
                Shown(
                    "Rows",
                    "that the last build wrote",
                    ((f"topk(15, medallion_model_last_rows{{{OF}}})", "{{model}}"),),
                ),
            ),
        ),
        (
            "Prefect server",
            (
                Shown(
                    "Server",
                    "1: it answers",
                    ((f"min(medallion_prefect_up{{{OF}}})", "up"),),
                    kind="stat",
                    bad_below=1,
                ),
                Shown(
                    "Flow runs",
                    "by pool and state",
                    ((f"sum by (pool, state) (medallion_pool_flow_runs{{{OF}}})", "{{pool}} {{state}}"),),
                ),
                Shown(
                    "Oldest due run",
                    "how long the oldest run has been due",
                    ((f"medallion_flow_run_oldest_due_seconds{{{OF}}}", "{{pool}}"),),
                    "s",
                    bad_from=900,
                ),
                Shown(
                    "Workers",
                    "1: a worker polls the pool",
                    ((f"medallion_work_pool_polled{{{OF}}}", "{{pool}}"),),
                    bad_below=1,
                ),
            ),
        ),
    ),
)
