"""One load of a file in this process, by us or by COPY alone: `python -m benchmarks.files_once`.

BENCH_FOLDER has the file, BENCH_WAREHOUSE is where it goes, BENCH_HOW is `medallion` or `copy`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg

from flows.access.addresses import SourceAddress
from flows.declare import Append
from flows.kinds.files import Files, FileTable, Settled
from flows.values.connection import DatabaseConnection
from flows.verbs.load import load_table

COLUMNS = {
    "id": "bigint",
    "account": "text",
    "booked_at": "date",
    "valued_at": "timestamp",
    "amount": "numeric(14,2)",
    "balance": "numeric(14,2)",
    "currency": "text",
    "quantity": "integer",
    "rate": "double precision",
    "is_open": "boolean",
    "counterparty": "text",
    "purpose": "text",
    "reference": "uuid",
    "branch": "text",
    "line": "integer",
}
TABLE = FileTable("statements", match="*.csv", load=Append(), columns=COLUMNS)


async def _load() -> None:
    source = Files("bench", connection="bench", tables=[TABLE], ready=Settled("0 s"))
    warehouse = DatabaseConnection("warehouse", os.environ["BENCH_WAREHOUSE"])
    result = await load_table(warehouse, SourceAddress(os.environ["BENCH_FOLDER"]), source, TABLE)
    assert result.counts.reconciliation == "match", result
    assert result.warning is None, result


async def _copy(path: Path) -> None:
    connection = await asyncpg.connect(os.environ["BENCH_WAREHOUSE"])
    await connection.execute(f"create table landing.bare ({', '.join(f'{name} text' for name in COLUMNS)})")
    await connection.copy_to_table(
        "bare", schema_name="landing", source=path, format="csv", header=True, columns=list(COLUMNS)
    )
    await connection.close()


def main() -> None:
    """Load once, with checks, ledger and reconciliation on; or copy the bytes, which is the limit."""
    (path,) = Path(os.environ["BENCH_FOLDER"]).glob("*.csv")
    asyncio.run(_load() if os.environ["BENCH_HOW"] == "medallion" else _copy(path))


if __name__ == "__main__":
    main()
