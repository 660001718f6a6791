"""`python -m tests.kinds.postgres.killable replace`: a load of the named kind, in a process that may die.

And the tables it knows, with what changes at their source between one load and the next.
"""

import asyncio
import sys
from datetime import date

from flows.access import addresses
from flows.access.addresses import connect
from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.declare.partition import Partition
from flows.kinds.answers import Ends
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.backfill import backfill_partition
from flows.kinds.registry import kind_of
from flows.values.connection import DatabaseConnection
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table

DOOR = (Rule("not_negative", "v >= 0"),)
# All rows that are there at first lie in earlier months than these.
MONTHS = Overwrite(by="at", every="month", last=2)

SOURCE = Database(
    "shop",
    connection="shop",
    tables=[
        Table("numbered", key="id", cursor=Sequence("id"), load=Append(), rules=DOOR, max_quarantined=1),
        Table("keyless", cursor=Sequence("id"), load=Append(), rules=DOOR, max_quarantined=1),
        Table("prices", key="id", load=Replace(min_share=0), rules=DOOR, max_quarantined=1),
        Table("sales", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True, rules=DOOR, max_quarantined=1),
        Table("days", key="id", load=MONTHS, rules=DOOR, max_quarantined=1),
        Table("keyless_days", load=MONTHS, rules=DOOR, max_quarantined=1),
        Table("followed_days", cursor=Timestamp("seen"), load=MONTHS, rules=DOOR, max_quarantined=1),
    ],
)

CREATE = "; ".join(
    f"create table {table.name} (id bigint generated always as identity primary key, v int, "
    f"at timestamptz default now(), seen timestamptz default now()); insert into {table.name} (v, at) "
    "select n, timestamptz '2024-01-01' + n * interval '1 day' from generate_series(1, 90) as n"
    for table in SOURCE.tables
)

GROWS = "insert into {table} (v) values (1), (2), (-1)"
#: What nobody stamps, so that no cursor would find it.
BEHIND_THE_CURSOR = (
    "update sales set v = v + 1 where id % 9 = {n} % 9; update sales set v = -1 where id = 40 + {n}; "
    "delete from sales where id = 80 - {n}"
)
#: Within the months that are read; no cursor would find any of it.
RECENT = (
    GROWS + "; update {table} set v = v + 1 where at > '2025-01-01' and id % 3 = 1 and v >= 0; "
    "delete from {table} where at > '2025-01-01' and id % 6 = {n} % 6"
)
#: The kinds of load: the table, and what changes before the load number n.
KINDS = {
    "append": ("numbered", GROWS),
    "append without key": ("keyless", GROWS),
    "replace": (
        "prices",
        "update prices set v = v + 1 where id % 9 = {n}; update prices set v = -1 where id = 40 + {n}; "
        "delete from prices where id = 80 - {n}; " + GROWS,
    ),
    "reload": ("sales", "alter table sales add column c{n} int default {n}; " + GROWS),
    # Rows come into the months that are read, leave them, and are mended where they are.
    "overwrite": (
        "days",
        RECENT + "; update {table} set v = 3 where at > '2025-01-01' and v < 0 and id % 2 = 0; "
        "update {table} set at = '2024-02-01' where id = "
        "(select max(id) from {table} where v > 0 and at > '2025-01-01' and id <= 90 + 3 * {n}); "
        "update {table} set at = now() where id = 1 + {n}",
    ),
    "overwrite without key": ("keyless_days", RECENT),
    # An earlier month is read when the cursor sees a row in it, also for what no cursor would find there.
    "overwrite by cursor": (
        "followed_days",
        RECENT
        + "; update {table} set v = -1, seen = now() where id = 5 + {n}; delete from {table} where id = 25 - {n}",
    ),
    "backfill": ("sales", BEHIND_THE_CURSOR),
    "repair": ("sales", BEHIND_THE_CURSOR),
}
# All rows of the table are of this year.
YEAR = Partition(date(2024, 1, 1), date(2025, 1, 1))


async def load(kind: str, warehouse: DatabaseConnection, shop: DatabaseConnection) -> None:
    """One load of the kind."""
    table = SOURCE.table(KINDS[kind][0])
    if kind == "repair":
        await compare_table(warehouse, shop, SOURCE, table, repair=True)
    elif kind == "backfill":
        async with connect(warehouse, side="warehouse") as ledger:
            backfill = await ledger.fetchval(
                "insert into ops.backfills (source_system, table_name, column_name, every, first_day, last_day) "
                "values ('shop', 'sales', 'at', 'year', '2024-01-01', '2024-12-31') returning backfill_id"
            )
        await backfill_partition(Ends(warehouse, shop, SOURCE, table), "at", YEAR, backfill)
    else:
        await load_table(warehouse, shop, SOURCE, table)


def main() -> None:
    """Load the kind that the first argument names."""
    asyncio.run(load(sys.argv[1], addresses.warehouse(), kind_of(SOURCE).address(SOURCE)))


if __name__ == "__main__":
    main()
