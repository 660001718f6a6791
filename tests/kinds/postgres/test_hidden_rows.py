"""Rows and columns that our role cannot see: refused with what is hidden, or loaded without them as declared."""

import pytest

from flows.declare import Merge, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.errors import DeclarationError, FailureClass, MedallionError, SourceError
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

CREATE = """
create table t (id int primary key, v int, secret text, at timestamptz default now());
insert into t (id, v) select n, n from generate_series(1, 400) as n
"""
MERGED = Table("t", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True)
SEES_A_PART = Table("t", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True, sees_a_part=True)


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    two.source(CREATE)
    return two


def hide_a_quarter(ends: TwoEnds) -> None:
    ends.source("alter table t enable row level security; create policy p on t using (id > 100)")


async def test_rows_that_a_policy_hides_stop_the_load_with_both_ways_out(ends: TwoEnds) -> None:
    await ends.load(MERGED)
    hide_a_quarter(ends)

    with pytest.raises(SourceError, match="row-level security") as refused:
        await ends.load(MERGED)

    assert "bypassrls" in refused.value.fix
    assert "sees_a_part=True" in refused.value.fix
    assert ends.raw("select count(*) from raw_shop.t where _deleted_at is null") == [(400,)]


async def test_who_wants_the_filtered_rows_declares_it_and_the_plan_says_so(ends: TwoEnds) -> None:
    hide_a_quarter(ends)

    result = await ends.load(SEES_A_PART)
    source = Database("shop", connection="shop", tables=[SEES_A_PART])
    compared = await compare_table(ends.warehouse_address, ends.shop_address, source, SEES_A_PART)

    assert (result.counts.rows_inserted, compared.source_rows, compared.result) == (300, 300, "match")
    assert result.warning is not None
    assert "hides from our role" in result.warning


@pytest.mark.parametrize(
    "filtered",
    [
        "select * from t where v < 1000 and current_user <> 'someone'",
        "select * from t where pg_has_role('shop_app', 'member') or id > 100",
        "select * from (select * from t where session_user::text <> 'x') as s",
        "select * from t where coalesce(current_setting('app.tenant', true), '') <> 'x'",
    ],
)
async def test_a_view_that_filters_by_who_asks_is_refused_also_below_another_view(ends: TwoEnds, filtered: str) -> None:
    ends.source(f"create view inner_view as {filtered}; create view w as select * from inner_view")
    ends.source("grant select on w to medallion_extractor")
    view = Table("w", key="id", load=Merge(), deletes=True)

    with pytest.raises(SourceError, match="view inner_view uses") as refused:
        await ends.load(view)

    assert "sees_a_part=True" in refused.value.fix
    accepted = Table("w", key="id", load=Merge(), deletes=True, sees_a_part=True)
    assert (await ends.load(accepted)).counts.reconciliation == "match"


async def test_a_view_that_asks_nobody_is_read(ends: TwoEnds) -> None:
    """Though a column is named like a keyword."""
    ends.source('create view w as select id, v as "user", v as "current_user" from t')
    ends.source("grant select on w to medallion_extractor")

    assert (await ends.load(Table("w", key="id", load=Merge()))).counts.rows_inserted == 400


async def test_a_column_that_our_role_may_not_read_stops_the_table_and_is_named(ends: TwoEnds) -> None:
    ends.source("revoke select on t from medallion_extractor; grant select (id, v, at) on t to medallion_extractor")

    with pytest.raises(SourceError, match=r"may not read column secret of table public\.t") as refused:
        await ends.load(MERGED)

    assert refused.value.fix.startswith("as its owner: grant select (secret) on public.t to medallion_extractor")
    assert refused.value.failure_class is FailureClass.PERMANENT
    ends.source("grant select (secret) on t to medallion_extractor")
    assert (await ends.load(MERGED)).counts.reconciliation == "match", "grants of all columns suffice"


async def test_a_table_of_which_nothing_may_be_read_names_its_grant(ends: TwoEnds) -> None:
    ends.source("revoke select on t from medallion_extractor")

    with pytest.raises(MedallionError, match="permission denied") as refused:
        await ends.load(MERGED)

    assert "grant select on public.t to medallion_extractor" in refused.value.fix


async def test_partitions_that_may_not_be_read_directly_are_read_through_their_table(ends: TwoEnds) -> None:
    ends.source(
        "create table parts (id int primary key, v int) partition by range (id);"
        "create table parts_1 partition of parts for values from (0) to (100);"
        "create table parts_2 partition of parts for values from (100) to (200);"
        "insert into parts select n, n from generate_series(0, 199) as n;"
        "grant select on parts to medallion_extractor; revoke all on parts_1, parts_2 from medallion_extractor;"
        "alter table parts_2 enable row level security"
    )

    result = await ends.load(Table("parts", key="id", load=Merge(), deletes=True))

    assert (result.counts.rows_inserted, result.counts.reconciliation) == (200, "match")


def test_other_databases_have_no_rows_that_they_hide() -> None:
    with pytest.raises(DeclarationError, match="sees_a_part"):
        Database("erp", connection="erp", engine="mysql", tables=[SEES_A_PART])
