"""What others do around a build: to views, settings, functions, statistics, tables of gold; and selections of users."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from flows.models.selective import cutoff
from flows.models.selective.decision import Decision
from tests.models.selective.small_project import SmallWarehouse

pytestmark = pytest.mark.xdist_group("selective")


def test_what_was_built_on_a_view_before_its_edit_is_built_again_after_it(small: SmallWarehouse) -> None:
    """A user builds one model, without the view below it, whose edit the next build brings in."""
    small.add(staging__twice="select id, amount::integer as amount from {{ source('shop', 'orders') }}",
              silver__of_twice="select id, amount from {{ ref('twice') }}")  # fmt: skip
    assert small.build()
    small.add(staging__twice="select id, 2 * amount::integer as amount from {{ source('shop', 'orders') }}")
    assert small.build(select="of_twice")
    assert small.build()
    assert small.nodes_built() == {"twice", "of_twice"}
    assert small.checksum("select * from silver.of_twice") == small.checksum("select * from staging.twice")


def test_what_was_built_on_a_view_that_somebody_replaced_is_built_again(small: SmallWarehouse) -> None:
    small.sql("transformer", "create or replace view staging.stg_orders as select id, -7 as amount "
              "from raw_shop.orders where id < 3")  # fmt: skip
    assert small.build(select="joined")
    assert small.differing() != []
    assert small.build()
    assert small.differing() == []


def test_a_selection_does_not_settle_another_one_that_was_killed(small: SmallWarehouse) -> None:
    small.load("orders", "update raw_shop.orders set amount = '31' where id = 1")
    small.killed_build(0, select="joined")
    assert small.build(select="marked")
    assert small.build()
    assert small.nodes_built() >= {"joined", "kept", "total", "coded", "marked"}


@pytest.mark.parametrize(
    ("statement", "follows"),
    [
        ("grant select (id) on silver.joined to public", "joined"),
        ("alter table silver.joined add constraint some_check unique (id)", "joined"),
        ("create index on silver.coded (id)", "coded"),
        ("alter table gold.total rename amount to number", "total"),
    ],
)
def test_what_others_add_to_a_table_of_a_model_builds_it_again(
    small: SmallWarehouse, statement: str, follows: str
) -> None:
    small.sql("transformer", statement)
    assert small.build()
    assert follows in small.nodes_built()


def test_rights_that_are_given_again_build_nothing(small: SmallWarehouse) -> None:
    """Provisioning gives them at every start of the embedded stack."""
    for schema in ("staging", "silver", "gold"):
        small.sql("transformer", f"grant select, insert on all tables in schema {schema} to current_user")
    small.sql("loader", "grant select on raw_shop.orders, raw_shop.notes to current_user")
    assert small.build()
    assert small.nodes_built() == set()


def test_a_model_that_lost_its_index_gets_it_back(small: SmallWarehouse) -> None:
    small.add(silver__quick="{{ config(indexes=[{'columns': ['id'], 'unique': true}]) }} "
              "select id from {{ ref('stg_notes') }}")  # fmt: skip
    assert small.build()
    found = "select indexrelid::regclass::text from pg_index where indrelid = 'silver.quick'::regclass"
    ((index,),) = small.sql("admin", found)
    small.sql("admin", f"drop index {index}")
    assert small.build()
    assert small.nodes_built() == {"quick"}
    assert len(small.sql("admin", found)) == 1


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("alter database {name} set timezone = 'Pacific/Kiritimati'", "alter database {name} reset timezone"),
        ("alter role medallion_transformer in database {name} set intervalstyle = 'iso_8601'",
         "alter role medallion_transformer in database {name} reset intervalstyle"),
        ("create function raw_shop.halved(x integer) returns integer immutable return x / 2",
         "drop function raw_shop.halved"),
    ],
    ids=["time zone", "form of intervals", "function"],
)  # fmt: skip
def test_settings_of_sessions_and_functions_of_the_warehouse_are_part_of_every_result(
    small: SmallWarehouse, change: str, back: str
) -> None:
    try:
        for statement in (change, back):
            small.sql("admin", statement.format(name=small.database.name))
            assert small.build()
            assert small.nodes_built() >= {"joined", "kept", "total", "latest"}
            assert small.differing() == []
    finally:
        small.sql("admin", back.format(name=small.database.name).replace("function", "function if exists"))


def test_counters_that_were_reset_and_reached_the_same_numbers_hide_nothing(small: SmallWarehouse) -> None:
    """Of a table whose loads the ledger knows, so that it is not hashed."""
    reset = "select pg_stat_reset_single_table_counters('raw_shop.notes'::regclass)"
    small.load("notes", "truncate raw_shop.notes")
    small.sql("admin", reset)
    small.sql("loader", "insert into raw_shop.notes values (1, 'one')")
    assert small.build()
    small.sql("admin", reset)
    small.sql("loader", "insert into raw_shop.notes values (2, 'two')")
    ((inserted, updated, deleted),) = small.sql("admin", "select n_tup_ins, n_tup_upd, n_tup_del "
                                                "from pg_stat_user_tables where relname = 'notes'")  # fmt: skip
    assert (inserted, updated, deleted) == (1, 0, 0)
    assert small.build()
    assert small.differing() == []


def test_a_write_to_a_table_that_a_build_leaves_is_noticed_by_the_next(small: SmallWarehouse) -> None:
    small.load("orders", "update raw_shop.orders set amount = amount")
    with _before_each_decision(lambda name: name.endswith(".total") and bool(
        small.sql("transformer", "update gold.total set amount = -1 returning 1")
    )):  # fmt: skip
        assert small.build()
    assert "total" in {name.rpartition(".")[2] for name in small.left}
    assert small.differing() == ["gold.total", "gold.seen"]
    assert small.build()
    assert small.differing() == []


@contextmanager
def _before_each_decision(happens: Callable[[str], object]) -> Iterator[None]:
    is_unneeded = Decision.is_unneeded

    def meanwhile(self: Decision, unique_id: str, *arguments: object) -> bool:
        happens(unique_id)
        return is_unneeded(self, unique_id, *arguments)  # type: ignore[arg-type]

    Decision.is_unneeded = meanwhile  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Decision.is_unneeded = is_unneeded  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("select 1 as t, 'a' as v", "select 1 as t, 'b' as v"),
        ("select null::text as t", "select ''::text as t"),
        ("select 1.0 as t", "select 1.00 as t"),
        ("select '0'::float8 as t", "select '-0'::float8 as t"),
        ("select 0.1::float8 as t", "select 0.1::float8 + 1e-17::float8 * 8 as t"),
        ("select '{\"a\": 1}'::json as t", "select '{\"a\":1}'::json as t"),
        ("select '1 day'::interval as t", "select '24 hours'::interval as t"),
        ("select 'a'::text collate \"C\" as t", "select 'a'::text collate \"POSIX\" as t"),
        ("select 1 as a, 2 as b", "select 2 as b, 1 as a"),
        ("select '2020-10-25 00:30+00'::timestamptz as t", "select '2020-10-25 01:30+00'::timestamptz as t"),
        ("select x from (values (1), (1), (2)) r (x)", "select x from (values (1), (2), (2)) r (x)"),
    ],
)
def test_rows_that_differ_in_what_a_reader_may_see_have_another_hash(
    small: SmallWarehouse, before: str, after: str
) -> None:
    """Also where the settings of the role would print them as the same text."""
    url = small.database.url("transformer")
    role = f"alter role medallion_transformer in database {small.database.name}"
    printed = {"extra_float_digits": "-10", "timezone": "'Europe/Berlin'", "datestyle": "'SQL'"}
    for name, value in printed.items():
        small.sql("admin", f"{role} set {name} = {value}")
    try:
        hashes = []
        for query in (before, after, before):
            small.sql("transformer", f"drop table if exists silver.compared; create table silver.compared as {query}")
            hashes.append(cutoff.content_of(url, "silver", "compared"))
        assert hashes[0] == hashes[2]
        assert hashes[0] != hashes[1]
    finally:
        for name in printed:
            small.sql("admin", f"{role} reset {name}")
        with psycopg.connect(url) as session:
            session.execute("drop table if exists silver.compared")
