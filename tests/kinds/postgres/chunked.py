"""`python -m tests.kinds.postgres.chunked orders`: a load in chunks, in a process of its own; the tables it knows."""

import asyncio
import subprocess
import sys

from flows.access import addresses
from flows.declare import Append, Merge, Replace, Sequence, Timestamp, TransactionId
from flows.kinds.postgres import Database, Table
from flows.kinds.registry import kind_of
from flows.verbs.load import load_table
from tests.kinds.conformance import forking
from tests.publish.two_ends import TwoEnds

ROWS = 12_000
# Chunks of some 600 rows; a table of 12,000 is "medium".
MEDIUM = {
    "MEDALLION_MEDIUM_LOAD_MB": "0.3",
    "MEDALLION_CHUNK_MIN_MB": "0.04",
    "MEDALLION_CHUNK_MAX_MB": "0.1",
}
LARGE = MEDIUM | {"MEDALLION_LARGE_LOAD_MB": "0.3", "MEDALLION_LOAD_READERS": "3"}

SOURCE = Database(
    "shop",
    connection="shop",
    tables=[
        Table("orders", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True),
        Table("traced", key="id", cursor=TransactionId(), load=Merge(), deletes=True),
        Table("prices", key=("shop", "id"), load=Replace(min_share=0)),
        Table("events", cursor=Sequence("id"), load=Append()),
    ],
)
KEYS = {"orders": "id", "traced": "id", "prices": "shop, id", "events": "id"}


def create(ends: TwoEnds) -> None:
    """All four tables with their rows, an index on every cursor, statistics up to date."""
    ends.source(
        f"""
        create table orders (id bigint primary key, v int, at timestamptz default now(), note text);
        create index on orders (at);
        insert into orders select n, n, timestamptz '2026-01-01' + n * interval '1 s', repeat('x', 40)
        from generate_series(1, {ROWS}) as n;
        create table traced as select * from orders;
        alter table traced add primary key (id);
        create table prices (shop text, id bigint, v int, note text, primary key (id, shop));
        insert into prices select (array['a''s', 'B', 'é'])[1 + n % 3], n / 3, n, repeat('y', 40)
        from generate_series(1, {ROWS}) as n;
        create table events (id bigint generated always as identity, v int, note text);
        create index on events (id);
        insert into events (v, note) select n, repeat('z', 40) from generate_series(1, {ROWS}) as n;
        analyze orders; analyze traced; analyze prices; analyze events
        """
    )


def load_in_a_process(ends: TwoEnds, table: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One load in a process that may die."""
    addresses = {
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
    }
    return forking.run("tests.kinds.postgres.chunked", [table], {**addresses, **variables})


def main() -> None:
    """Load the table that the first argument names."""
    table = SOURCE.table(sys.argv[1])
    asyncio.run(load_table(addresses.warehouse(), kind_of(SOURCE).address(SOURCE), SOURCE, table))


if __name__ == "__main__":
    main()
