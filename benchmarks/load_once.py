"""One load of the benchmark's table in this process: `python -m benchmarks.load_once SOURCE_URL WAREHOUSE_URL MODE`."""

from __future__ import annotations

import asyncio
import os

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table

_RULES = (Rule("quantity_above_zero", "quantity > 0"), Rule("price_not_negative", "unit_price >= 0"))

TABLES = {
    "append": Table("order_items", load=Append(), cursor=Sequence("order_item_id"), rules=_RULES),
    "replace": Table("order_items", load=Replace(), key="order_item_id", rules=_RULES),
    "promotions": Table("promotions", load=Append(), key="promotion_id", cursor=Sequence("promotion_id")),
    "changes": Table("changes", load=Merge(), key="id", cursor=Timestamp("updated_at")),
    "merge": Table("order_items", load=Merge(), key="order_item_id", cursor=Timestamp("updated_at"), rules=_RULES),
}


def main() -> None:
    """Load once, with rules, ledger and reconciliation on."""
    table = TABLES[os.environ["BENCH_MODE"]]
    result = asyncio.run(
        load_table(
            DatabaseConnection("warehouse", os.environ["BENCH_WAREHOUSE"]),
            DatabaseConnection("source", os.environ["BENCH_SOURCE"]),
            Database("bench", connection="bench", tables=[table]),
            table,
        )
    )
    assert result.counts.reconciliation == "match", result


if __name__ == "__main__":
    main()
