"""Samples of values that the planner keeps are somebody's data too, and outlive the rows."""

import asyncio

import psycopg
import pytest

from flows.privacy import erase as erasing
from flows.privacy import statistics
from flows.privacy.erase import Erasure, erase
from tests.conftest import TestDatabase
from tests.kinds.loading import rows
from tests.privacy.one_household import HOUSEHOLD, KEY, WORDS

_TABLES = ("raw_shop.households", "silver.household", "snapshots.households_snapshot")


def forget() -> Erasure:
    return asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))


def sampled(warehouse: TestDatabase, word: str) -> set[str]:
    """Tables whose statistics have the word, read without the code under test."""
    found = rows(
        warehouse,
        "select schemaname || '.' || tablename as name from pg_stats where position($w$" + word + "$w$ in "
        "concat(most_common_vals::text, histogram_bounds::text, most_common_elems::text)) > 0 union "
        "select schemaname || '.' || tablename from pg_stats_ext where position($w$" + word + "$w$ in "
        "most_common_vals::text) > 0 union "
        "select schemaname || '.' || tablename from pg_stats_ext_exprs where position($w$" + word + "$w$ in "
        "concat(most_common_vals::text, histogram_bounds::text)) > 0",
        role="admin",
    )
    return {row["name"] for row in found}


@pytest.fixture
def analyzed(held: TestDatabase) -> TestDatabase:
    """A warehouse whose every table has statistics: of columns, of columns together, of an expression."""
    with psycopg.connect(held.url("transformer"), autocommit=True) as transformer:
        transformer.execute("create statistics silver.both on full_name, email from silver.household")
        transformer.execute("create statistics silver.lowered on (lower(email)) from silver.household")
        transformer.execute("alter table silver.household alter column email set statistics 1000")
        # More of them are common values.
        transformer.execute("insert into silver.household select * from silver.household")
        # What analyze does not touch: a table without a row.
        transformer.execute("create table silver.emptied as select * from silver.household")
        transformer.execute("create statistics silver.of_emptied on full_name, email from silver.emptied")
        transformer.execute("analyze silver.emptied; delete from silver.emptied")
        transformer.execute("create table silver.alone as select * from silver.household where household_id = 5")
        transformer.execute("insert into silver.alone select * from silver.alone")
        transformer.execute("create materialized view silver.seen as select email from silver.household")
    for role in ("loader", "transformer"):
        with psycopg.connect(held.url(role), autocommit=True) as connection:
            connection.execute("set client_min_messages = error; analyze")
    return held


def test_statistics_forget_the_person(analyzed: TestDatabase) -> None:
    before = sampled(analyzed, WORDS[1])
    assert {*_TABLES, "silver.emptied", "silver.alone", "silver.seen"} <= before

    assert forget().proven

    assert sampled(analyzed, WORDS[1]) == set()
    assert sampled(analyzed, "Zqquark") == set()


def test_statistics_of_a_table_that_nobody_here_may_refresh_are_reported(analyzed: TestDatabase) -> None:
    with psycopg.connect(analyzed.url("admin"), autocommit=True) as admin:
        admin.execute("create table gold.theirs as select email from silver.household; analyze gold.theirs")
        admin.execute("delete from gold.theirs; grant select on gold.theirs to medallion_transformer")
    done = forget()
    assert [(line.place, line.column) for line in done.left] == [("pg_stats of gold.theirs", "email")]
    assert not done.proven


def test_statistics_that_cannot_be_cleared_are_reported(
    analyzed: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before PostgreSQL 18 nothing clears those of a table without rows."""
    monkeypatch.setattr(statistics, "_CLEARS", 99)
    done = forget()
    assert {line.place for line in done.left} == {"pg_stats of silver.emptied", "pg_stats of silver.alone"}
    assert not done.proven


def test_a_killed_erasure_refreshes_them_when_it_goes_on(
    analyzed: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nobody knows the person's words: the tables of the log are refreshed."""

    class Killed(BaseException):
        pass

    async def die(*_: object, **__: object) -> int:
        raise Killed

    # Between the commit of the deletes and everything after it.
    monkeypatch.setattr(erasing, "refresh", _nothing)
    monkeypatch.setattr(erasing, "open_transactions", die)
    with pytest.raises(Killed):
        forget()
    monkeypatch.undo()
    assert set(_TABLES) <= sampled(analyzed, WORDS[1])

    assert forget().proven

    assert not sampled(analyzed, WORDS[1]) & set(_TABLES)


async def _nothing(*_: object) -> None:
    return None
