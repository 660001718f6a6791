"""Any table can be read, or is refused with what is in the way: names, enums, widths, encodings."""

from collections.abc import Iterator

import pytest

from flows.declare import Merge, Replace
from flows.kinds.postgres import Database, Table
from flows.values.errors import DeclarationError, FailureClass, MedallionError, SourceError
from flows.values.settings import settings
from flows.values.sqlstates import Answer, explain_answer
from flows.verbs.compare import compare_table
from flows.verbs.fix import fix
from flows.verbs.replay import replay
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.nightly import each_once
from tests.publish.two_ends import TwoEnds, run_sql

# 63 bytes, the most that PostgreSQL keeps; some of two bytes.
LONG = ('Ein langer Name mit Ümläuten, “Zitaten” und "mehr" ' + "x" * 80).encode()[:63].decode(errors="ignore")


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    two = TwoEnds(warehouse, shop)
    run_sql(shop.url("admin"), "create schema audit authorization shop_app; create schema later authorization shop_app")
    two.source("grant usage on schema audit to medallion_extractor")
    return two


async def both_loads_and_a_comparison(ends: TwoEnds, table: Table, rows: int) -> None:
    source = Database("shop", connection="shop", tables=[table])
    assert (await ends.load(table)).counts.rows_inserted == rows
    again = (await ends.load(table)).counts
    assert (again.rows_inserted, again.rows_updated, again.reconciliation) == (0, 0, "match")
    compared = await compare_table(ends.warehouse_address, ends.shop_address, source, table)
    assert (compared.result, compared.source_rows) == ("match", rows)


async def test_an_enum_and_a_table_of_one_name(ends: TwoEnds) -> None:
    ends.source(
        "create type audit.status as enum ('new', 'old'); create table status (id int primary key, now audit.status);"
        "insert into status values (1, 'new'), (2, 'old'), (3, null); grant select on status to medallion_extractor"
    )

    await both_loads_and_a_comparison(ends, Table("status", key="id", load=Merge(), deletes=True), 3)

    assert ends.raw("select id, now::text from raw_shop.status order by id") == [(1, "new"), (2, "old"), (3, None)]


async def test_two_enums_of_one_name_in_two_schemas_stay_two(ends: TwoEnds) -> None:
    ends.source(
        "create type mood as enum ('sad', 'fine'); create type audit.mood as enum ('red', 'sad', 'green');"
        "create table a (id int primary key, m mood, n audit.mood); insert into a values (1, 'fine', 'green');"
        "create table audit.b (id int primary key, m audit.mood); insert into audit.b values (1, 'sad'), (2, 'red');"
        "grant select on a, audit.b to medallion_extractor"
    )

    await both_loads_and_a_comparison(ends, Table("a", key="id", load=Merge()), 1)
    await both_loads_and_a_comparison(ends, Table("b", schema="audit", key="id", load=Replace()), 2)

    labels = "select enum_range(null::raw_shop.{})::text"
    assert ends.raw(labels.format("mood")) == [("{sad,fine}",)]
    assert ends.raw(labels.format("audit__mood")) == [("{red,sad,green}",)]


async def test_an_enum_keeps_its_name_when_another_of_that_name_is_made_later(ends: TwoEnds) -> None:
    ends.source(
        "create type audit.mood as enum ('red'); create table a (id int primary key, m audit.mood);"
        "grant select on a to medallion_extractor"
    )
    table = Table("a", key="id", load=Merge())
    await ends.load(table)
    ends.source("create type later.mood as enum ('x'); insert into a values (1, 'red')")

    assert (await ends.load(table)).counts.rows_inserted == 1


@pytest.mark.parametrize("name", ["MixedCase", LONG, "select", 'a "quoted" name', "a.b"])
async def test_any_name_at_the_source_has_a_plain_name_in_raw(ends: TwoEnds, name: str) -> None:
    assert len(LONG.encode()) in (62, 63)
    quoted = '"' + name.replace('"', '""') + '"'
    ends.source(
        f"create table {quoted} ({quoted} int primary key, v int); insert into {quoted} values (1, 1), (2, 2);"
        f"grant select on {quoted} to medallion_extractor"
    )

    table = Table("orders", source_name=name, key=name, load=Merge(), deletes=True)
    await both_loads_and_a_comparison(ends, table, 2)

    assert ends.raw("select v from raw_shop.orders order by v") == [(1,), (2,)]


def test_an_empty_name_at_the_source_is_refused() -> None:
    with pytest.raises(DeclarationError, match="is empty"):
        Table("orders", source_name="", load=Replace())


async def test_a_table_without_columns_is_refused_by_name(ends: TwoEnds) -> None:
    ends.source("create table nothing (); grant select on nothing to medallion_extractor")

    with pytest.raises(SourceError, match=r"table public\.nothing has no columns") as refused:
        await ends.load(Table("nothing", load=Replace()))

    assert (refused.value.failure_class, refused.value.retryable) == (FailureClass.SCHEMA, False)


async def test_as_many_columns_as_raw_can_have_are_loaded_and_more_are_refused(ends: TwoEnds) -> None:
    columns = ", ".join(f"c{n} bool" for n in range(1595))
    ends.source(
        f"create table wide (id int primary key, {columns}); insert into wide (id, c1, c1594) values (1, true, false);"
        "grant select on wide to medallion_extractor"
    )
    wide = Table("wide", key="id", load=Merge(), deletes=True)
    await both_loads_and_a_comparison(ends, wide, 1)
    ends.source("alter table wide add column more bool, add column most bool")

    with pytest.raises(SourceError, match="has 1598 columns, and raw can have 1596") as refused:
        await ends.load(wide)

    assert refused.value.failure_class is FailureClass.SCHEMA
    assert "views" in refused.value.fix


def test_a_type_that_the_warehouse_cannot_do_says_how_to_load_it() -> None:
    """The embedded PostgreSQL has no xml, so neither end can be set up here."""
    error = explain_answer(Answer("0A000", "FeatureNotSupported", "unsupported XML feature"), "shop.t", "warehouse")

    assert (error.failure_class, error.retryable) == (FailureClass.SCHEMA, False)
    assert "casts the column to text" in error.fix


async def test_a_name_that_is_not_there_is_still_an_error_of_the_declaration(ends: TwoEnds) -> None:
    with pytest.raises(MedallionError, match=r"public\.Orders does not exist"):
        await ends.load(Table("orders", source_name="Orders", load=Replace()))


# -- a database that checks no encoding


@pytest.fixture
def unchecked(warehouse: TestDatabase, shop: TestDatabase) -> Iterator[TwoEnds]:
    """A source in SQL_ASCII, with one text that is Latin-1 among others in UTF-8."""
    name, admin = f"{shop.name}_ascii", shop.cluster.connection
    admin.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C' owner shop_app")
    admin.execute(f"grant connect on database {name} to medallion_extractor")
    ends = TwoEnds(warehouse, TestDatabase(name, shop.cluster, shop.roles))
    ends.source(
        "set client_encoding = 'SQL_ASCII'; create table notes (id int primary key, v int, note text, at timestamptz "
        "default now()); insert into notes values (1, 1, 'plain'), (2, 2, E'M\\xc3\\xbcnchen \\xf0\\x9f\\x98\\x80'), "
        "(3, 3, E'M\\xfcnchen'), (4, 4, null); grant usage on schema public to medallion_extractor;"
        "grant select on notes to medallion_extractor"
    )
    yield ends
    admin.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize(
    ("load", "limits"),
    each_once([Merge(), Replace(min_share=0)], [{}, {"medium_load_mb": 0.00001, "chunk_min_mb": 0.00001}]),
)
async def test_a_row_with_a_byte_that_is_no_utf8_is_quarantined_and_the_table_goes_on(
    unchecked: TwoEnds, load: Merge | Replace, limits: dict[str, float]
) -> None:
    ends = unchecked
    table = Table("notes", key="id", load=load, deletes=isinstance(load, Merge), max_quarantined=1)
    source = Database("shop", connection="shop", tables=[table])
    in_raw = "select id, note from raw_shop.notes where _deleted_at is null order by id"

    with setting(**limits):
        first = (await ends.load(table)).counts
        again = (await ends.load(table)).counts
        compared = await compare_table(ends.warehouse_address, ends.shop_address, source, table)

    assert (first.rows_read, first.rows_quarantined, first.rows_inserted, first.reconciliation) == (4, 1, 3, "match")
    assert (again.rows_inserted, again.rows_deleted, again.reconciliation) == (0, 0, "match")
    assert ends.raw(in_raw) == [(1, "plain"), (2, "München \U0001f600"), (4, None)]
    aside = ends.raw("select rule, row_key, row_data ->> 'text' from quarantine.rows where resolved_at is null")
    assert [(rule, key) for rule, key, _ in aside] == [("text_is_not_utf8", {"id": 3})]
    assert r"M\\xfcnchen" in aside[0][2]
    assert compared.result == "match"

    ends.source("update notes set note = 'fixed' where id = 3")
    assert (await ends.load(table)).counts.rows_inserted == 1
    assert ends.raw("select count(*) from quarantine.rows where resolved_at is null") == [(0,)]


@pytest.mark.parametrize("load", [Merge(), Replace(min_share=0)])
async def test_a_row_with_a_byte_that_is_no_utf8_stays_as_it_was_fixed_by_hand(
    unchecked: TwoEnds, load: Merge | Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = unchecked
    table = Table("notes", key="id", load=load, deletes=isinstance(load, Merge), max_quarantined=1)
    source = Database("shop", connection="shop", tables=[table])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (source,))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", ends.warehouse.url("loader"))
    settings.cache_clear()
    await ends.load(table)
    ((number,),) = ends.raw("select quarantine_id from quarantine.rows")

    assert (await fix(number, {"note": "München"}, "ada", "Latin-1")).verdict is None
    await replay([str(number)], "ada")

    for _ in range(2):
        counts = (await ends.load(table)).counts
        assert (counts.rows_deleted, counts.reconciliation) == (0, "match")
        compared = await compare_table(ends.warehouse_address, ends.shop_address, source, table, repair=True)
        assert (compared.result, compared.repaired) == ("match", 0)
        assert ends.raw("select v, note from raw_shop.notes where id = 3 and _deleted_at is null") == [(3, "München")]
    settings.cache_clear()
