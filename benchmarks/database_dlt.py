"""Tables by dlt's sql_database, read by connectorx and written by its PostgreSQL destination.

In full, or with `BENCH_CURSOR` from the newest value of that column on.
"""

from __future__ import annotations

import os


def main() -> None:
    """One load into the dataset `raw_dlt`."""
    import dlt  # here: importing it is a part of what is measured
    from dlt.sources.sql_database import sql_table

    folder, cursor = os.environ["BENCH_FOLDER"], os.environ.get("BENCH_CURSOR")
    incremental = {"incremental": dlt.sources.incremental(cursor), "primary_key": "id"} if cursor else {}
    tables = [
        sql_table(
            credentials=os.environ["BENCH_SOURCE"],
            table=name,
            schema="public",
            backend="connectorx",
            chunk_size=100_000,
            **incremental,
        )
        for name in os.environ["BENCH_TABLES"].split(",")
    ]
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.postgres(os.environ["BENCH_WAREHOUSE"]),
        dataset_name="raw_dlt",
        pipelines_dir=folder,
    )
    pipeline.run(tables, write_disposition="merge" if cursor else "replace").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
