"""A warehouse made by any earlier version becomes what this version would make, with all that it remembers.

`schemas/` holds some forms of schema.sql, by number: the first, the last with its vocabulary, the last before this, and
this.
"""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from flows.access.addresses import connect
from flows.sources.shop import shop as declared_shop
from flows.state import ledger, overview
from flows.values.errors import WarehouseError
from flows.values.settings import settings
from flows.verbs.compare import compare_table
from flows.verbs.plan import plan_sources
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.kinds.loading import CHANGES, addresses, change, load, setting
from tests.publish.two_ends import Rows, TwoEnds

SCHEMAS = {path.stem: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("schemas/*.sql")}
TODAY = f"{ledger.SCHEMA_VERSION}a"
EARLIER = sorted(set(SCHEMAS) - {TODAY})

_SCHEMAS = "('ops'::regnamespace, 'quarantine'::regnamespace, 'landing'::regnamespace)"
_CATALOGUE = f"""
select relnamespace::regnamespace::text, relname, 'column', attname, format_type(atttypid, atttypmod)
    || case when attnotnull then ' not null' else '' end || attidentity::text
    || coalesce(' default ' || pg_get_expr(adbin, adrelid), '')
from pg_attribute as a
inner join pg_class as c on c.oid = attrelid
left join pg_attrdef on adrelid = attrelid and adnum = attnum
where relnamespace in {_SCHEMAS} and relkind = 'r' and attnum > 0 and not attisdropped
union all
select connamespace::regnamespace::text, conrelid::regclass::text, 'constraint', conname, pg_get_constraintdef(oid)
from pg_constraint where connamespace in {_SCHEMAS}
union all
select relnamespace::regnamespace::text, relname, 'index', '', pg_get_indexdef(oid)
from pg_class where relnamespace in {_SCHEMAS} and relkind = 'i'
union all
select relnamespace::regnamespace::text, relname, 'comment', objsubid::text, description
from pg_description inner join pg_class as c on c.oid = objoid
where classoid = 'pg_class'::regclass and objsubid = 0 and relnamespace in {_SCHEMAS}
union all
select relnamespace::regnamespace::text, relname, 'comment', attname, description
from pg_description as d
inner join pg_class as c on c.oid = objoid
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum = d.objsubid
where classoid = 'pg_class'::regclass and objsubid > 0 and relnamespace in {_SCHEMAS}
union all
select relnamespace::regnamespace::text, relname, 'trigger', tgname, pg_get_triggerdef(t.oid)
from pg_trigger as t inner join pg_class as c on c.oid = tgrelid
where not tgisinternal and relnamespace in {_SCHEMAS}
union all
select pronamespace::regnamespace::text, proname, 'function', '', md5(pg_get_functiondef(oid))
from pg_proc where pronamespace in {_SCHEMAS}
order by 1, 2, 3, 4, 5
"""
# What loads of an earlier version left behind, in columns that every version has.
_REMEMBERED = """
insert into ops.runs (pipeline, status) values ('ingest', 'done'), ('ingest', 'failed');
insert into ops.loads (run_id, source_system, table_name, mode, path, status, rows_read, rows_inserted, rows_updated,
    rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, reconciled)
values (1, 'shop', 'stores', 'merge', 'first', 'published', 5, 5, 0, 0, 0, 0, 0, 'equal'),
    (1, 'shop', 'basket_items', 'merge', 'merge', 'published', 450, 450, 0, 0, 0, 0, 0, 'equal'),
    (2, 'shop', 'baskets', 'merge', 'merge', 'failed', 7, null, null, null, null, null, null, null);
insert into ops.cursors (source_system, table_name, cursor_value, batch_id) select 'shop', 'basket_items', $cursor$, 2;
insert into ops.schema_changes (batch_id, source_system, table_name, column_name, change, old_type)
values (1, 'shop', 'stores', 'manager', 'dropped', 'text');
insert into ops.errors (error_id, failure_class, severity, strategy, location, what, next_move, retryable)
values ('E-1', 'data', 'error', 'ask', 'shop.baskets', 'bad', 'mend', false);
insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash)
values (1, 'shop', 'stores', '{"store_id": 99}', 'a_rule', '{"store_id": 99}', 'x')
"""
#: Version 10 has other words for the same columns.
_SINCE_10 = (("mode, path, ", "strategy, "), ("'merge', 'first'", "'initial'"), ("'merge', 'merge'", "'merge'"),
             ("reconciled)", "reconciliation)"), ("'equal'", "'match'"), ("next_move", "fix"))  # fmt: skip
_KEPT = """
select 'run ' || run_id || ' ' || status from ops.runs where run_id <= 2
union all
select concat_ws(' ', 'load', batch_id, table_name, status, rows_read, coalesce(rows_inserted, -1))
from ops.loads where batch_id <= 3
union all
select 'error ' || error_id from ops.errors
union all
select 'change ' || column_name || ' ' || applied || ' ' || announced from ops.schema_changes where batch_id = 1
union all
select 'quarantined ' || (row_key ->> 'store_id') from quarantine.rows where batch_id = 1
order by 1
"""


def catalogue(ends: TwoEnds) -> Rows:
    """Every column, constraint, index, comment, trigger and function of the operations schemas, in any order."""
    return ends.raw(_CATALOGUE)


def remembered(schema: str, cursor: str) -> str:
    """What loads of that version left behind."""
    statements = _REMEMBERED.replace("$cursor$", f"'{cursor}'")
    for earlier, later in _SINCE_10 if int(schema.rstrip("a")) >= 10 else ():
        statements = statements.replace(earlier, later)
    return statements


def make(ends: TwoEnds, schema: str) -> None:
    """Have the warehouse's operations made by another version."""
    ends.raw("drop schema ops, quarantine, landing cascade")
    ends.raw(SCHEMAS[schema])


async def upgrade(ends: TwoEnds) -> None:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        await ledger.ensure_schema(warehouse)


@pytest.fixture(scope="module")
def expected(cluster: TestCluster) -> Iterator[Rows]:
    """The catalogue as this version makes it where nothing was."""
    with fresh_warehouse(cluster) as database:
        yield catalogue(TwoEnds(database, database))


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


@pytest.mark.parametrize("schema", EARLIER)
async def test_a_warehouse_of_an_earlier_version_becomes_one_of_this_and_goes_on(
    ends: TwoEnds, expected: Rows, schema: str
) -> None:
    """With rows in it, which stay, and loads from where the last one ended, which use every table there is."""
    await load(ends.warehouse, ends.shop, "basket_items")
    ((cursor,),) = ends.raw("select cursor_value from ops.cursors")
    make(ends, schema)
    ends.raw(remembered(schema, cursor))

    await upgrade(ends)

    assert catalogue(ends) == expected
    assert [line for (line,) in ends.raw(_KEPT)] == [
        # What happened before there were events is not told any more; what waits to be told still waits.
        f"change manager true {str('announced' not in SCHEMAS[schema]).lower()}",
        "error E-1",
        "load 1 stores published 5 5",
        "load 2 basket_items published 450 450",
        "load 3 baskets failed 7 -1",
        "quarantined 99",
        "run 1 done",
        "run 2 failed",
    ]
    change(ends.shop, *CHANGES)
    result = await load(ends.warehouse, ends.shop, "basket_items")
    assert (result.strategy, result.counts.rows_inserted, result.counts.reconciliation) == ("merge", 60, "match")
    with setting(medium_load_mb=0, chunk_min_mb=0.001, chunk_max_mb=0.001):
        assert (await load(ends.warehouse, ends.shop, "baskets")).counts.reconciliation == "match"
    table = declared_shop.table("baskets")
    compared = await compare_table(ends.warehouse_address, ends.shop_address, declared_shop, table)
    assert compared.result == "match"
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        seen = await overview.read_overview(warehouse)
    assert {row["table_name"] for row in seen.tables} == {"stores", "basket_items", "baskets"}


async def test_an_upgrade_that_fails_leaves_the_earlier_version_and_may_be_tried_again(
    ends: TwoEnds, expected: Rows
) -> None:
    make(ends, "1a")
    before = catalogue(ends)
    ends.raw("create view ops.circuits as select 1 as nothing")  # where this version wants a table

    with pytest.raises(asyncpg.WrongObjectTypeError, match="circuits"):
        await upgrade(ends)

    ends.raw("drop view ops.circuits")
    assert catalogue(ends) == before
    assert ends.raw("select max(version) from ops.schema_version") == [(1,)]
    await upgrade(ends)
    assert catalogue(ends) == expected


async def test_a_plan_touches_no_warehouse_of_an_earlier_version_and_says_what_to_do(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in addresses(ends.warehouse, ends.shop).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    make(ends, "9a")
    before = catalogue(ends)

    with pytest.raises(WarehouseError, match="version 9") as refused:
        await plan_sources({"shop": ["stores"]})

    assert "medallion migrate" in refused.value.fix
    assert catalogue(ends) == before
    await upgrade(ends)
    assert [line.state for line in await plan_sources({"shop": ["stores"]})] == ["pending"]


async def test_a_schema_that_changed_has_another_number(ends: TwoEnds, expected: Rows) -> None:
    """What was once made under a number stays what it is: warehouses of that number are not looked at again."""
    make(ends, TODAY)

    assert catalogue(ends) == expected, (
        f"flows/state/schema.sql makes something else than version {ledger.SCHEMA_VERSION} did: raise SCHEMA_VERSION "
        "and the number at its end, tell upgrade.sql, and put a copy into tests/state/schemas"
    )
    assert ends.raw("select max(version) from ops.schema_version") == [(ledger.SCHEMA_VERSION,)]
