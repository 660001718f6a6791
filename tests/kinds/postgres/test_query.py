"""A query at the source as a table."""

import asyncio
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from flows.access.addresses import connect
from flows.declare import Append, Hashed, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.declare.partition import Partition
from flows.declare.query import body
from flows.kinds.answers import Ends
from flows.kinds.postgres import Database, Table
from flows.kinds.registry import kind_of
from flows.state import backfills
from flows.values.errors import DataRefused, DeclarationError, MedallionError, SourceError
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.eventually import eventually
from tests.kinds.loading import setting
from tests.kinds.postgres.waiting import behind
from tests.nightly import each_once
from tests.publish.two_ends import TwoEnds, run_sql

TOTALS = """
-- One row per customer; without tests.
with counted as (select customer_id, count(*) as orders, sum(total) as total, max(changed_at) as changed_at
    from orders group by customer_id)
select c.id, c.name, coalesce(t.orders, 0) as orders, t.total, greatest(c.changed_at, t.changed_at) as changed_at
from customers as c left join counted as t on t.customer_id = c.id where c.name <> ';test)';
"""


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create type mood as enum ('sad', 'fine'); create domain mail as text;"
        "create table customers (id int primary key, name varchar(40) not null, mail mail, mood mood,"
        " changed_at timestamptz not null default now());"
        "create table orders (id int primary key, customer_id int, total numeric(10, 2),"
        " changed_at timestamptz not null default now());"
        "insert into customers values (1, 'ada', 'ada@x', 'fine'), (2, 'bob', null, 'sad'), (3, ';test)', null, null);"
        "insert into orders select n, 1 + n % 3, n * 1.5 from generate_series(1, 30) as n;"
        "grant select on customers, orders to medallion_extractor"
    )
    return two


def totals(**declared: Any) -> Table:
    given: dict[str, Any] = {
        "key": "id", "cursor": Timestamp("changed_at"), "load": Merge(), "deletes": True, "query": TOTALS,
    } | declared  # fmt: skip
    return Table("totals", **given)


async def compared(ends: TwoEnds, table: Table, *, repair: bool = False) -> Any:
    declared = Database("shop", connection="shop", tables=[table])
    return await compare_table(ends.warehouse_address, ends.shop_address, declared, table, repair=repair)


async def test_a_query_is_loaded_like_a_table(ends: TwoEnds) -> None:
    first = await ends.load(totals())
    assert (first.counts.rows_inserted, first.counts.reconciliation) == (2, "match")
    assert ends.raw("select id, name, orders, total from raw_shop.totals order by id") == [
        (1, "ada", 10, pytest.approx(247.5)), (2, "bob", 10, pytest.approx(217.5)),
    ]  # fmt: skip
    ends.source("insert into orders values (100, 1, 100, now()); delete from customers where id = 2")

    counts = (await ends.load(totals())).counts

    assert (counts.rows_updated, counts.rows_deleted, counts.reconciliation) == (1, 1, "match")
    assert (await ends.load(totals())).counts.changed == 0
    assert (await compared(ends, totals())).result == "match"


@pytest.mark.parametrize(
    ("declared", "limits"),
    each_once(
        [
            {"load": Replace(), "cursor": None, "deletes": False},
            {"load": Replace(), "cursor": None, "deletes": False, "key": ()},
            {"load": Append(), "cursor": Sequence("id"), "deletes": False, "key": ()},
            {"load": Append(), "cursor": Timestamp("changed_at"), "deletes": False},
            {"load": Overwrite(by="changed_at", every="day"), "cursor": None, "deletes": False},
            {"load": Overwrite(by="changed_at", every="day"), "cursor": None, "deletes": False, "key": ()},
            {"load": Merge(), "cursor": None},
            {"load": Merge(), "where": "orders > 0", "exclude": ("name",)},
            {"load": Merge(), "as_text": ("total",), "masked": {"name": Hashed()}},
            {"load": Merge(), "rules": (Rule("has_orders", "orders > 100"),), "max_quarantined": 1},
        ],
        [{}, {"medium_load_mb": 0.00001, "large_load_mb": 0.00002}],
    ),
)
async def test_every_way_to_load_works_for_a_query(
    ends: TwoEnds, declared: dict[str, Any], limits: dict[str, float]
) -> None:
    with setting(mask_key="a key for hashes in tests, of 40 characters", **limits):
        assert (await ends.load(totals(**declared))).counts.reconciliation == "match"
        ends.source("insert into customers values (9, 'new', null, null)")
        await ends.load(totals(**declared))
        counts = (await ends.load(totals(**declared))).counts
        assert (counts.changed, counts.reconciliation) == (0, "match")
        assert (await compared(ends, totals(**declared))).result == "match"


async def test_types_are_those_of_the_query(ends: TwoEnds) -> None:
    ends.source("create type pair as (a int, b int)")
    query = (
        "select id, name, mail, mood, 'x' as kind, now()::timestamp(0) as at, 1.50 as price, array[1] as list, "
        "name::char(3) as short, b'101' as bits, row(1, 2)::pair as own, null as nothing from customers"
    )
    await ends.load(Table("typed", key="id", load=Replace(), query=query))
    found = ends.raw(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'raw_shop.typed'::regclass and attnum > 0 and left(attname, 1) <> '_' order by attnum"
    )
    assert dict(found) == {
        "id": "integer", "name": "character varying", "mail": "text", "mood": "raw_shop.mood", "kind": "text",
        "at": "timestamp without time zone", "price": "numeric", "list": "integer[]", "short": "bpchar",
        "bits": '"bit"', "own": "text", "nothing": "text",
    }  # fmt: skip
    assert (await ends.load(Table("typed", key="id", load=Replace(), query=query))).counts.reconciliation == "match"


async def test_a_changed_query_is_a_changed_declaration(ends: TwoEnds) -> None:
    """Rows below the cursor are another query's."""
    await ends.load(totals())
    ends.source("update customers set changed_at = changed_at - interval '2 days'")
    await ends.load(totals(query=TOTALS.replace("-- One row", "-- A row").replace("\n", "\n  ")))
    other = totals(query=TOTALS.replace("sum(total)", "sum(total) * 2"))

    result = await ends.load(other)

    assert result.strategy == "reload"
    assert "the declared query was changed" in str(result.warning)
    assert ends.raw("select total from raw_shop.totals where id = 1") == [(pytest.approx(495),)]
    keyless = {"key": (), "load": Append(), "cursor": Sequence("id"), "deletes": False}
    await ends.load(totals(**keyless, query="select id from customers"), source="other")
    with pytest.raises(DataRefused, match="the declared query was changed") as refused:
        await ends.load(totals(**keyless, query="select id from customers where id > 0"), source="other")
    assert "--recreate" in refused.value.fix


async def test_a_table_that_becomes_a_query_is_read_again(ends: TwoEnds) -> None:
    table = Table("customers", key="id", cursor=Timestamp("changed_at"), load=Merge(), exclude=("mood",))
    await ends.load(table)
    query = "select id, upper(name) as name, mail, changed_at from customers"
    result = await ends.load(Table("customers", key="id", cursor=Timestamp("changed_at"), load=Merge(), query=query))
    assert result.strategy == "reload"
    assert ends.raw("select name from raw_shop.customers where id = 1") == [("ADA",)]


async def test_a_table_that_was_made_again_below_the_query_is_noticed(ends: TwoEnds) -> None:
    await ends.load(totals())
    ends.source(
        "alter table orders rename to orders_old; create table orders (like orders_old including all);"
        "insert into orders select id, customer_id, total * 10, now() - interval '3 days' from orders_old;"
        "grant select on orders to medallion_extractor"
    )
    result = await ends.load(totals())
    assert "orders, which the query reads, was recreated" in str(result.warning)
    assert ends.raw("select total from raw_shop.totals where id = 1") == [(pytest.approx(2475),)]


async def test_a_view_that_was_redefined_below_the_query_is_noticed(ends: TwoEnds) -> None:
    ends.source(
        "create view big as select id, total, changed_at from orders; grant select on big to medallion_extractor"
    )
    table = Table("big", key="id", cursor=Timestamp("changed_at"), load=Merge(), query="select * from big")
    await ends.load(table)
    ends.source("create or replace view big as select id, (total * 2)::numeric(10, 2) as total, changed_at from orders")
    result = await ends.load(table)
    assert (result.strategy, "view big" in str(result.warning)) == ("reload", True)


async def test_a_read_that_waits_behind_a_rewrite_sees_the_rows_after_it(ends: TwoEnds) -> None:
    """Every table of the query is locked before the snapshot, also the second, and one below a view."""
    ends.source("create view few as select * from orders; grant select on few to medallion_extractor")
    table = totals(query=TOTALS.replace("from orders", "from few"))
    await ends.load(table)
    rewrite = (
        "create temporary table kept as select * from orders; truncate orders;"
        "insert into orders select id, customer_id, total + 1, now() from kept"
    )
    result = await behind(ends, rewrite, ends.load(table))
    assert result.counts.reconciliation == "match"
    assert ends.raw("select orders, total from raw_shop.totals where id = 1") == [(10, pytest.approx(257.5))]


async def test_a_foreign_table_of_the_query_is_locked_on_its_own_server(ends: TwoEnds) -> None:
    far = urlsplit(ends.shop.url("extractor"))
    run_sql(
        ends.shop.url("admin"),
        "create extension postgres_fdw; create server far foreign data wrapper postgres_fdw options "
        f"(host '127.0.0.1', port '{far.port}', dbname '{far.path[1:]}');"
        f"create user mapping for medallion_extractor server far options (user '{far.username}',"
        f" password '{far.password}');"
        "create foreign table far_orders (id int, customer_id int, total numeric(10, 2), changed_at timestamptz)"
        " server far options (table_name 'orders'); grant select on far_orders to medallion_extractor",
    )
    table = totals(query=TOTALS.replace("from orders", "from far_orders"))
    await ends.load(table)
    waiting = "select exists (select from pg_locks where not granted and relation = 'orders'::regclass)"
    with psycopg.connect(ends.shop.url("app")) as owner:
        owner.execute("create temporary table kept as select * from orders; truncate orders")
        loading = asyncio.create_task(ends.load(table))
        await asyncio.to_thread(eventually, lambda: ends.source(waiting) == [(True,)] or loading.done())
        assert not loading.done(), "the read did not wait for the lock"
        owner.execute("insert into orders select id, customer_id, total + 1, now() from kept")
        owner.commit()
    result = await loading

    assert result.counts.reconciliation == "match"
    assert ends.raw("select orders, total from raw_shop.totals where id = 1") == [(10, pytest.approx(257.5))]


async def test_a_table_that_a_function_reads_is_refused_because_it_was_not_locked(ends: TwoEnds) -> None:
    ends.source(
        "create function total_of(int) returns numeric language plpgsql stable as "
        "$$ begin return (select sum(total) from orders where customer_id = $1); end $$"
    )
    table = Table("totals", key="id", load=Replace(), query="select id, total_of(id) as total from customers")
    with pytest.raises(SourceError, match="a function in the declared query reads orders") as refused:
        await ends.load(table)
    assert ends.raw("select to_regclass('raw_shop.totals')") == [(None,)]
    assert "write in the query itself" in refused.value.fix
    ends.source(
        "create function twice(numeric) returns numeric language plpgsql immutable as $$ begin return $1 * 2; end $$"
    )
    await ends.load(Table("totals", key="id", load=Replace(), query="select id, twice(id) as two from customers"))


async def test_rows_hidden_from_our_role_are_an_error_here_as_well(ends: TwoEnds) -> None:
    await ends.load(totals())
    ends.source("alter table orders enable row level security; create policy few on orders using (id < 5)")
    with pytest.raises(Exception, match="row-level security"):
        await ends.load(totals())


@pytest.mark.parametrize(
    "query",
    [
        "select id from customers where name = current_user",
        "select id from mine",
        "select id from customers where name = Current_Setting('app.user', true)",
        "select id from customers where has_table_privilege('orders', 'select')",
    ],
)
async def test_a_query_that_depends_on_who_asks_is_refused_unless_declared(ends: TwoEnds, query: str) -> None:
    ends.source(
        "create view mine as select * from customers where name <> session_user;"
        "grant select on mine to medallion_extractor"
    )
    with pytest.raises(SourceError, match=r"may show our role a part"):
        await ends.load(Table("few", key="id", load=Replace(), query=query))
    await ends.load(Table("few", key="id", load=Replace(), query=query, sees_a_part=True))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select id from custmers", 'refused by the source: 42P01 UndefinedTable: relation "custmers" does not exist'),
        ("select no from customers", 'refused by the source: 42703 UndefinedColumn: column "no" does not exist'),
        ("select id fro customers", "refused by the source: 42601 PostgresSyntax: syntax error at or near"),
        ("select c.id, o.id from customers as c, orders as o", "several columns of the name id"),
        ("with gone as (delete from orders returning id) select id from gone", "refused by the source"),
        ("select from customers", "has no columns"),
        ("select id as _batch_id, id from customers", "reserved"),
        ("select name from customers", "key or cursor column id is not in the table"),
    ],
)
async def test_a_query_that_cannot_be_a_table_is_an_error_with_a_fix(ends: TwoEnds, query: str, said: str) -> None:
    with pytest.raises(SourceError) as refused:
        await ends.load(Table("totals", key="id", load=Replace(), query=query))
    assert said in str(refused.value)
    assert refused.value.fix
    assert not refused.value.retryable
    assert ends.source("select count(*) from orders") == [(30,)]


async def test_a_grant_that_is_missing_is_named(ends: TwoEnds) -> None:
    ends.source("revoke select on orders from medallion_extractor")
    with pytest.raises(Exception, match="orders") as refused:
        await ends.load(totals())
    assert "grant select" in str(refused.value)


async def test_a_repair_and_a_backfill_read_the_query(ends: TwoEnds) -> None:
    table = totals(cursor=None)
    await ends.load(table)
    ends.raw("update raw_shop.totals set total = 0 where id = 1; delete from raw_shop.totals where id = 2")
    found = await compared(ends, table)
    assert (found.different, found.missing) == (1, 1)
    assert (await compared(ends, table, repair=True)).result == "match"
    ends.raw("update raw_shop.totals set total = 0")
    source = Database("shop", connection="shop", tables=[table])
    kind = kind_of(source)
    both = Ends(ends.warehouse_address, ends.shop_address, source, table)
    today = date.today()
    partition = Partition(today.replace(day=1), date(today.year + today.month // 12, today.month % 12 + 1, 1))
    counted, _ = await kind.count_partitions(both, "changed_at", [partition])
    assert counted[0][1] == 2
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        number, _ = await backfills.open_backfill(
            warehouse, "shop", "totals", "changed_at", "month", (today, today), restart=True
        )
    done = await kind.backfill(both, "changed_at", partition, number, None, None)
    assert done.counts.rows_updated == 2
    assert (await compared(ends, table)).result == "match"


async def test_a_subjects_home_may_be_a_query(ends: TwoEnds) -> None:
    source = Database("shop", connection="shop", tables=[totals()])
    both = Ends(ends.warehouse_address, ends.shop_address, source, source.table("totals"))
    assert await kind_of(source).holds(both, "name", "ada")
    assert not await kind_of(source).holds(both, "name", "eve")


async def test_a_plan_says_that_the_table_is_a_query(ends: TwoEnds) -> None:
    assert "the rows of a declared query" in await ends.cautions(totals())


def test_lineage_names_what_the_query_reads(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", ends.shop.url("extractor"))
    source = Database("shop", connection="shop", tables=[totals()])
    read = kind_of(source).reads(source, source.table("totals"))
    assert [dataset.name.partition(".")[2] for dataset in read] == ["public.customers", "public.orders"]
    assert kind_of(source).made_of(source.table("totals"), "name") is None


REWRITTEN = {
    "a column that took another's name": "alter table orders rename total to total_old;"
    "alter table orders add column total numeric(10, 2); update orders set total = total_old * 2",
    "a table that was filled again": "create table kept as table orders; truncate orders;"
    "insert into orders select id, customer_id, total * 2, changed_at from kept",
    "a type that rounds": "alter table orders alter column total type numeric(10, 0)",
}


@pytest.mark.parametrize("change", REWRITTEN.values(), ids=REWRITTEN)
async def test_what_a_query_reads_is_read_again_when_rows_below_the_cursor_were_rewritten(
    ends: TwoEnds, change: str
) -> None:
    ends.source("alter table orders alter changed_at set default '2020-01-01'; update orders set changed_at = default;"
                "insert into orders values (1000, 1, 1.26, now())")  # fmt: skip
    query = "select id, total::numeric as total, changed_at from orders"
    table = Table("q", key="id", cursor=Timestamp("changed_at"), load=Merge(), deletes=True, query=query)
    await ends.load(table)

    ends.source(change)
    await ends.load(table)

    held = "select id, total from {} order by 1"
    assert ends.raw(held.format("raw_shop.q where _deleted_at is null")) == ends.source(held.format("orders"))


async def test_a_query_of_a_table_whose_sequence_was_restarted_is_refused_without_a_key(ends: TwoEnds) -> None:
    ends.source(
        "create table ev (id int generated always as identity, total numeric);"
        "insert into ev (total) select n from generate_series(1, 20) as n;"
        "grant select on ev to medallion_extractor"
    )
    table = Table("q", query="select id, total from ev", cursor=Sequence("id"), load=Append())
    await ends.load(table)
    ends.source("truncate ev restart identity; insert into ev (total) select n * 100 from generate_series(1, 25) as n")
    with pytest.raises(MedallionError, match="emptied or rewritten"):
        await ends.load(table)


async def test_a_query_that_is_several_statements_writes_nothing(ends: TwoEnds) -> None:
    """Texts with escapes that go on in another line are the way past our own reading of the text."""
    ends.source("create table pwned (n int); grant select, insert on pwned to medallion_extractor")
    inside = (
        "as q limit 0; commit; begin read write; insert into pwned values (1); commit; begin; select * from (select 1"
    )
    query = f"select id, total from orders where E'a'\n'\\'' is not null ) {inside} -- '"
    with pytest.raises(DeclarationError, match="goes on in another line"):
        await ends.load(Table("q", key="id", load=Replace(), query=query))
    assert ends.source("select * from pwned") == []


def test_a_comment_ends_with_its_line_whichever_way_that_is_written() -> None:
    assert body("select id from t -- a\r where id < 5", "t").endswith("where id < 5")
