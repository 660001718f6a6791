"""Columns and rows to take or to leave out, and columns to take as text."""

import pytest

from flows.declare import Merge, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.errors import DeclarationError, SourceError
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds, run_sql

SMALL = {"medium_load_mb": 0.001, "chunk_min_mb": 0.001, "chunk_max_mb": 0.004}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table people (id int primary key, email text, band int, at timestamptz default now());"
        "insert into people values (1, 'ada@example.com', 3), (2, 'bob@example.com', 4);"
        "revoke select on people from medallion_extractor;"
        "grant select (id, band, at) on people to medallion_extractor"
    )
    return two


def people(**declared: object) -> Table:
    return Table("people", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True, **declared)  # type: ignore[arg-type]


def columns_in_raw(ends: TwoEnds) -> list[str]:
    query = (
        "select attname from pg_attribute where attrelid = to_regclass('raw_shop.people') and attnum > 0 "
        "and left(attname, 1) <> '_' order by attnum"
    )
    return [row[0] for row in ends.raw(query)]


@pytest.mark.parametrize("declared", [{"exclude": ("email",)}, {"columns": ("id", "band", "at")}])
async def test_a_column_that_is_left_out_needs_no_grant_and_never_reaches_the_warehouse(
    ends: TwoEnds, declared: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(SourceError, match="may not read column email") as refused:
        await ends.load(people())  # the control
    assert "exclude=('email',)" in refused.value.fix
    table = people(**declared)
    await ends.load(table)
    ends.source("update people set band = 5, at = now() where id = 1; delete from people where id = 2")

    result = await ends.load(table)

    assert (result.counts.rows_updated, result.counts.rows_deleted, result.counts.reconciliation) == (1, 1, "match")
    assert columns_in_raw(ends) == ["id", "band", "at"]
    compared = await compare_table(
        ends.warehouse_address, ends.shop_address, Database("shop", connection="shop", tables=[table]), table
    )
    assert compared.result == "match"


async def test_a_new_column_comes_unless_the_ones_to_take_are_named(ends: TwoEnds) -> None:
    ends.source("grant select on people to medallion_extractor")
    await ends.load(people(exclude=("email",)))
    ends.source("alter table people add level int default 7")
    await ends.load(people(exclude=("email",)))
    assert columns_in_raw(ends) == ["id", "band", "at", "level"]
    assert ends.raw("select level from raw_shop.people order by id") == [(7,), (7,)]
    ends.source("alter table people add phone text default '123'")
    await ends.load(people(columns=("id", "band", "at", "level")))
    assert columns_in_raw(ends) == ["id", "band", "at", "level"]


async def test_a_column_that_is_left_out_may_change_as_it_likes(ends: TwoEnds) -> None:
    ends.source("create type mood as enum ('sad', 'fine'); alter table people add mood mood default 'sad'")
    table = people(exclude=("email", "mood"))
    await ends.load(table)
    ends.source("alter type mood rename value 'sad' to 'low'; alter table people drop email, add email int")

    result = await ends.load(table)

    assert (result.strategy, result.counts.rows_read) == ("merge", 2)
    assert result.counts.rows_unchanged == 2


@pytest.mark.parametrize("argument", ["columns", "exclude", "as_text"])
async def test_a_mistyped_name_is_refused_before_anything_is_loaded(ends: TwoEnds, argument: str) -> None:
    named = ("id", "at", "e_mail") if argument == "columns" else ("e_mail",)
    ends.source("grant select on people to medallion_extractor")
    with pytest.raises(SourceError, match=f"column e_mail of {argument} is not in the table"):
        await ends.load(people(**{argument: named}))
    assert columns_in_raw(ends) == []


async def test_a_type_is_taken_as_text(ends: TwoEnds) -> None:
    table = people(exclude=("email",), as_text=("band", "at"))
    with pytest.raises(SourceError, match="at"):
        await ends.load(table)  # a cursor needs its type
    table = people(exclude=("email",), as_text=("band",))
    await ends.load(table)
    assert ends.raw("select id, band from raw_shop.people order by id") == [(1, "3"), (2, "4")]
    assert (await ends.load(table)).counts.reconciliation == "match"


@pytest.mark.parametrize("limits", [{}, SMALL], ids=["at once", "in chunks"])
async def test_rows_outside_the_declared_condition_do_not_exist(ends: TwoEnds, limits: dict[str, float]) -> None:
    ends.source("insert into people select i, 'x', i % 10 from generate_series(3, 2000) as i; analyze people")
    table = people(exclude=("email",), where="band < 3 -- young\n or band is null")
    expected = run_sql(ends.shop.url("app"), "select count(*) from people where band < 3")[0][0]
    with setting(**limits):
        first = await ends.load(table)
        assert (first.counts.rows_inserted, first.counts.reconciliation) == (expected, "match")
        ends.source(
            "update people set band = 7, at = now() where id in (10, 11); insert into people values (5000, 'y', 9)"
        )
        result = await ends.load(table)

    assert (result.counts.rows_deleted, result.counts.reconciliation) == (2, "match")
    compared = await compare_table(
        ends.warehouse_address, ends.shop_address, Database("shop", connection="shop", tables=[table]), table
    )
    assert (compared.result, compared.source_rows) == ("match", expected - 2)


async def test_another_condition_reads_the_rows_that_an_earlier_one_left_out(ends: TwoEnds) -> None:
    await ends.load(people(exclude=("email",), where="band < 4"))

    result = await ends.load(people(exclude=("email",)))

    assert (result.strategy, result.counts.rows_inserted, result.counts.reconciliation) == ("reload", 1, "match")
    assert "condition" in str(result.warning)
    assert "band < 4" not in str(ends.raw("select identity from ops.cursors"))


@pytest.mark.parametrize("where", ["band <", "bandd < 4", "band) or (true", "band < 'x'", "true; select 1"])
async def test_a_condition_that_is_no_sql_of_the_source_is_refused_with_the_fix(ends: TwoEnds, where: str) -> None:
    with pytest.raises(SourceError, match="declared condition is refused") as refused:
        await ends.load(people(exclude=("email",), where=where))
    assert "where=" in refused.value.fix
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"columns": ("id", "at"), "exclude": ("email",)}, "both columns and exclude"),
        ({"exclude": ("id",)}, "column id is not read"),
        ({"columns": ("id",)}, "column at is not read"),
        ({"exclude": ("email",), "as_text": ("email",)}, "column email is not read"),
        ({"exclude": "email"}, "exclude is one text"),
        ({"columns": ("id", "at", "at")}, "twice"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(declared: dict[str, object], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        people(**declared)
