"""One load of the benchmark's API in this process: keys, types, metadata, ledger and reconciliation are on."""

from __future__ import annotations

import asyncio
import os

from flows.kinds.api import Api, Endpoint, PageNumber, Since
from flows.values.connection import ApiConnection, DatabaseConnection
from flows.verbs.load import load_table


def main() -> None:
    """Load once, with as many pages at a time as BENCH_CONCURRENT says."""
    endpoint = Endpoint(
        "items",
        path="/items",
        key_type="bigint",
        total="meta.total",
        cursor=Since("updated_since", field="updated_at"),
        concurrent=int(os.environ["BENCH_CONCURRENT"]),
    )
    api = Api("bench", connection="bench", endpoints=[endpoint], pagination=PageNumber(pages="meta.pages"))
    result = asyncio.run(
        load_table(
            DatabaseConnection("warehouse", os.environ["BENCH_WAREHOUSE"]),
            ApiConnection("bench", os.environ["BENCH_API"]),
            api,
            endpoint,
        )
    )
    assert result.counts.reconciliation == "match", result


if __name__ == "__main__":
    main()
