"""Settings of a role, a database or a pooler change no value and no comparison: each is pinned where it is read."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from flows.access.addresses import connect
from flows.declare import Merge, Replace, Timestamp
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.reading import settled
from flows.values.checksum import RowSet
from flows.values.connection import DatabaseConnection
from flows.values.errors import FailureClass, SourceError
from flows.values.shape import fingerprint
from flows.values.sqlstates import Answer, explain_answer
from flows.verbs.compare import compare_table
from flows.verbs.load import load_table
from tests.conftest import TestDatabase, fresh_shop
from tests.kinds.postgres.pooler import pooler
from tests.nightly import nightly
from tests.private_cluster import PrivateCluster, private_cluster
from tests.publish.two_ends import TwoEnds, run_sql

# Each makes a value's text, or what a statement means, another one.
HOSTILE = {
    "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "extra_float_digits": "-5", "bytea_output": "escape",
    "TimeZone": "America/St_Johns", "xmloption": "document", "quote_all_identifiers": "on",
    "transform_null_equals": "on", "array_nulls": "off", "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
    "search_path": "public, pg_catalog", "client_encoding": "LATIN1",
}  # fmt: skip
CREATE = """
create table odd (
    id int primary key, at timestamptz, t timestamptz, d date, f float8, r real, b bytea, i interval, c regclass,
    a text[], n text, p point, z timetz, as_key interval
);
insert into odd values
    (1, '2026-01-02 03:04:05.678901Z', '2026-02-03 04:05:06Z', '2026-04-05', 0.1::float8 + 0.2, 1/3.0, '\\x00ff5c27',
    '1 year 2 mons -3 days 04:05:06.7', 'odd', '{null,"null",x}', 'é\\x', '(0.1,0.2)', '12:00:00-03:30', '1 day'),
    (2, '2026-01-03 03:04:05.678901Z', null, null, null, null, null, null, null, null, null, null, null, '2 days')
"""
ODD = Table("odd", key=("id", "as_key"), cursor=Timestamp("at"), load=Merge(), deletes=True)
SOURCE = Database("shop", connection="shop", tables=[ODD])


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> Iterator[TwoEnds]:
    two = TwoEnds(warehouse, shop)
    two.source(CREATE)
    yield two
    for database, role in ((shop, "extractor"), (warehouse, "loader")):
        run_sql(database.url("admin"), f"alter role {database.roles[role]} in database {database.name} reset all")


def be_hostile(database: TestDatabase, role: str) -> None:
    for name, value in HOSTILE.items():
        shown = value if name == "search_path" else f"'{value}'"
        run_sql(
            database.url("admin"),
            f"alter role {database.roles[role]} in database {database.name} set {name} = {shown}",
        )


@pytest.mark.parametrize("way", ["drop", "reject", *nightly("direct")])
async def test_settings_of_the_role_change_no_value_whatever_a_pooler_does_to_ours(
    ends: TwoEnds, way: Literal["direct", "drop", "reject"]
) -> None:
    be_hostile(ends.shop, "extractor")
    if way == "direct":
        await _first_and_second_load_are_exact(ends, ends.shop_address)
        return
    async with pooler(ends.shop_address, way) as pooled:
        await _first_and_second_load_are_exact(ends, pooled)


@pytest.mark.parametrize("way", ["direct", "drop", *nightly("reject")])
async def test_settings_of_the_loader_change_no_value_either(
    ends: TwoEnds, way: Literal["direct", "drop", "reject"]
) -> None:
    be_hostile(ends.warehouse, "loader")
    if way == "direct":
        await _first_and_second_load_are_exact(ends, ends.shop_address)
        return
    async with pooler(ends.warehouse_address, way) as pooled:
        await _first_and_second_load_are_exact(ends, ends.shop_address, pooled)


async def _first_and_second_load_are_exact(
    ends: TwoEnds, address: DatabaseConnection, warehouse: DatabaseConnection | None = None
) -> None:
    ours = warehouse or ends.warehouse_address
    first = await load_table(ours, address, SOURCE, ODD)
    assert (first.counts.rows_read, first.counts.reconciliation) == (2, "match")
    ends.source("update odd set n = 'changed', at = now() where id = 2")
    second = await load_table(ours, address, SOURCE, ODD)
    compared = await compare_table(ours, address, SOURCE, ODD)

    assert (second.counts.rows_updated, second.counts.rows_deleted, second.counts.reconciliation) == (1, 0, "match")
    assert (compared.result, compared.differences) == ("match", 0)
    names = "id, at, t, d, f, r, b, i, a, n, p::text, z"
    order = " order by id"
    in_raw = run_sql(ends.warehouse.url("admin"), f"select {names}, c from raw_shop.odd{order}")
    assert in_raw == ends.source(f"select {names}, c::text from odd{order}")


async def test_nothing_of_ours_stays_behind_in_a_session_that_a_pooler_gives_to_others(ends: TwoEnds) -> None:
    async with (
        pooler(ends.shop_address, "reject") as pooled,
        connect(pooled, side="source") as origin,
    ):
        query = "select name, setting from pg_settings where source = 'session' order by name"
        before = [tuple(row) for row in await origin.fetch(query)]
        async with settled(origin, SOURCE, ODD):
            assert await origin.fetchval("show row_security") == "off"
        assert [tuple(row) for row in await origin.fetch(query)] == before


def test_a_rejected_start_up_parameter_is_not_retried() -> None:
    answer = Answer("08P01", "ProtocolViolation", "unsupported startup parameter: jit")

    error = explain_answer(answer, "shop", "source")

    assert (error.retryable, error.failure_class) == (False, FailureClass.PERMANENT)
    assert "unsupported startup parameter: jit" in error.what
    assert "ignore_startup_parameters" in error.fix


async def test_a_role_with_short_limits_reads_as_long_as_it_takes(ends: TwoEnds) -> None:
    """A role for people has them; ours has its own limit for each statement."""
    ends.source("create view slow as select id, n, pg_sleep(1.2)::text as s from odd where id = 1")
    ends.source("grant select on slow to medallion_extractor")
    for database, role in ((ends.shop, "extractor"), (ends.warehouse, "loader")):
        for name in ("transaction_timeout", "statement_timeout", "idle_session_timeout"):
            named = f"alter role {database.roles[role]} in database {database.name} set {name} = '1s'"
            run_sql(database.url("admin"), named)

    assert (await ends.load(Table("slow", load=Replace()))).counts.rows_inserted == 1


def test_a_transaction_that_is_ended_by_a_limit_says_which() -> None:
    error = explain_answer(Answer("25P04", "TransactionTimeout", "terminating connection"), "shop", "source")

    assert (error.retryable, error.failure_class) == (False, FailureClass.RESOURCE)
    assert "transaction_timeout" in error.fix


# -- collations


def test_keys_and_rows_are_hashed_by_their_bytes() -> None:
    """Also where this PostgreSQL was built without ICU, which the next test needs."""
    rows = RowSet("t", ("k",), ("k", "v"))
    for query in (rows.whole(), rows.buckets(4), rows.rows(4), fingerprint(["k"]), fingerprint(["k", "l"])):
        assert query.count("hashtextextended") == query.count(')::text) collate "C"') + query.count(
            'k::text) collate "C"'
        )


@pytest.mark.parametrize("loads", ["merge", "replace"])
async def test_keys_under_a_collation_that_ignores_case_compare_by_their_bytes(ends: TwoEnds, loads: str) -> None:
    """Hashed by their own collation, `Ann` and `ann` are one; the warehouse has no such collation."""
    with contextlib.suppress(psycopg.errors.FeatureNotSupported):
        ends.source("create collation und_any (provider = icu, locale = 'und')")
    if not ends.source("select from pg_collation where collname = 'und_any'"):
        pytest.skip("this PostgreSQL was built without ICU")
    ends.source(
        "create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "create table people (name text collate any_case primary key, note varchar(20) collate any_case);"
        "insert into people select chr(65 + n % 26) || md5(n::text), 'Né ' || n from generate_series(1, 600) as n"
    )
    load = Merge() if loads == "merge" else Replace()
    people = Table("people", key="name", load=load, deletes=loads == "merge")
    source = Database("shop", connection="shop", tables=[people])
    assert (await ends.load(people)).counts.reconciliation == "match"
    assert (await compare_table(ends.warehouse_address, ends.shop_address, source, people)).result == "match"

    ends.source("update people set name = lower(name) where note = 'Né 7'")
    changed = await ends.load(people)

    assert (changed.counts.rows_inserted, changed.counts.rows_deleted) == (1, 1)
    assert (await compare_table(ends.warehouse_address, ends.shop_address, source, people)).result == "match"


# -- money

YEN = Table("prices", key="id", load=Merge())


@pytest.fixture(scope="module")
def in_japan() -> Iterator[PrivateCluster]:
    """A server that has Japan's locale, whose money has no decimals."""
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed")
    with tempfile.TemporaryDirectory() as locales, pytest.MonkeyPatch.context() as patched:
        Path(locales).chmod(0o755)
        made = ["localedef", "-i", "ja_JP", "-f", "UTF-8", f"{locales}/ja_JP.UTF-8"]
        run: Any = subprocess.run
        if run(made, check=False, capture_output=True).returncode:
            pytest.skip("the locale of Japan is not installed")

        def with_locales(*arguments: Any, env: Mapping[str, str] | None = None, **named: Any) -> Any:
            return run(*arguments, env={**(os.environ if env is None else env), "LOCPATH": locales}, **named)

        patched.setattr("infra.local.programs.subprocess.run", with_locales)
        with private_cluster() as cluster:
            yield cluster


@pytest.fixture
def yen(in_japan: PrivateCluster, warehouse: TestDatabase) -> Iterator[TwoEnds]:
    """A shop on that server."""
    with fresh_shop(in_japan.cluster) as shop:
        yield TwoEnds(warehouse, shop)


@pytest.mark.parametrize("where", ["database", "every role"])
async def test_money_has_the_decimals_of_the_source(yen: TwoEnds, where: str) -> None:
    """COPY sends the number of the smallest unit: 1234 yen arrived as 12.34, and compared as equal."""
    ends, shop = yen, yen.shop
    at = f"database {shop.name}" if where == "database" else f"role all in database {shop.name}"
    run_sql(shop.url("admin"), f"alter {at} set lc_monetary = 'ja_JP.UTF-8'")
    ends.source("create table prices (id int primary key, price money, more money[])")
    ends.source("insert into prices values (1, 1234, '{5,6}'), (2, null, null)")

    await ends.load(YEN)

    assert ends.raw("select price::numeric, more::text from raw_shop.prices order by id limit 1") == [(1234, "{5,6}")]
    source = Database("shop", connection="shop", tables=[YEN])
    compared = await compare_table(ends.warehouse_address, ends.shop_address, source, YEN)
    assert (compared.result, compared.source_rows) == ("match", 2)


async def test_money_whose_decimals_our_role_hides_is_refused(yen: TwoEnds) -> None:
    ends, shop = yen, yen.shop
    run_sql(
        shop.url("admin"), f"alter role medallion_extractor in database {shop.name} set lc_monetary = 'ja_JP.UTF-8'"
    )
    ends.source("create table prices (id int primary key, price money)")

    with pytest.raises(SourceError, match="lc_monetary") as refused:
        await ends.load(YEN)
    assert "reset lc_monetary" in refused.value.fix
    # Where the database says it itself, the role's setting does not count.
    run_sql(shop.url("admin"), f"alter database {shop.name} set lc_monetary = 'C'")
    ends.source("insert into prices values (1, '12.34')")
    await ends.load(YEN)
    assert ends.raw("select price::numeric::text from raw_shop.prices") == [("12.34",)]
