"""The order table by dlt's sql_database, read by connectorx and written by its PostgreSQL destination."""

from __future__ import annotations

import os


def main() -> None:
    """One full load into the dataset `raw_dlt`."""
    import dlt  # here: importing it is a part of what is measured
    from dlt.sources.sql_database import sql_table

    folder = os.environ["BENCH_FOLDER"]
    table = sql_table(
        credentials=os.environ["BENCH_SOURCE"],
        table="order_items",
        schema="public",
        backend="connectorx",
        chunk_size=100_000,
    )
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.postgres(os.environ["BENCH_WAREHOUSE"]),
        dataset_name="raw_dlt",
        pipelines_dir=folder,
    )
    pipeline.run(table, write_disposition="replace").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
