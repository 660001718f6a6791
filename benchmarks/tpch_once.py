"""One load of each table of TPC-H in this process, one after the other, with ledger and reconciliation on."""

from __future__ import annotations

import asyncio
import os

from flows.declare import Replace
from flows.kinds.postgres import Database, Table
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table

KEYS: dict[str, tuple[str, ...]] = {
    "region": ("r_regionkey",),
    "nation": ("n_nationkey",),
    "supplier": ("s_suppkey",),
    "customer": ("c_custkey",),
    "part": ("p_partkey",),
    "partsupp": ("ps_partkey", "ps_suppkey"),
    "orders": ("o_orderkey",),
    "lineitem": ("l_orderkey", "l_linenumber"),
}
"""The tables and their keys, by which rows would be merged or replaced later. Other tools build no index of them."""


def main() -> None:
    """With `BENCH_KEYS`, raw's tables get their primary keys."""
    with_keys = bool(os.environ.get("BENCH_KEYS"))
    tables = [Table(name, load=Replace(), key=key if with_keys else ()) for name, key in KEYS.items()]
    asyncio.run(_load(Database("bench", connection="bench", tables=tables)))


async def _load(source: Database) -> None:
    for table in source.tables:
        result = await load_table(
            DatabaseConnection("warehouse", os.environ["BENCH_WAREHOUSE"]),
            DatabaseConnection("source", os.environ["BENCH_SOURCE"]),
            source,
            table,
        )
        assert result.counts.reconciliation == "match", result


if __name__ == "__main__":
    main()
