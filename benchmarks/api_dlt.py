"""dlt's rest_api source into PostgreSQL, appended: the cheapest of its ways to write.

`BENCH_NESTING=0` keeps nested lists as JSON, as we do; without it dlt unpacks them into tables of their own.
"""

from __future__ import annotations

import os
import tempfile


def main() -> None:
    """Read every page into the dataset `raw_dlt`."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "DLT_DATA_DIR": folder,
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            "DESTINATION__POSTGRES__CREDENTIALS": os.environ["BENCH_WAREHOUSE"],
        }
        import dlt
        from dlt.sources.rest_api import rest_api_source

        source = rest_api_source(
            {
                "client": {
                    "base_url": os.environ["BENCH_API"],
                    "paginator": {
                        "type": "page_number",
                        "base_page": 1,
                        "page_param": "page",
                        "total_path": "meta.pages",
                    },
                },
                "resources": [{"name": "items", "endpoint": {"path": "items", "data_selector": "data"}}],
            }
        )
        if nesting := os.environ.get("BENCH_NESTING"):
            source.max_table_nesting = int(nesting)
        pipeline = dlt.pipeline("bench", destination="postgres", dataset_name="raw_dlt", pipelines_dir=folder)
        pipeline.run(source).raise_on_failed_jobs()


if __name__ == "__main__":
    main()
