"""`medallion quarantine` on the terminal: what it shows, what it masks, what it records."""

import asyncio
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.declare import Merge, Rule
from flows.kinds.postgres import Database, Table
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds, run_sql

TABLE = Table("orders", key="id", load=Merge(), rules=(Rule("quantity_positive", "quantity > 0"),), max_quarantined=0.9)
SHOP = Database("shop", connection="shop", tables=[TABLE])


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", warehouse.url("transformer"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (SHOP,))
    monkeypatch.setattr("flows.cli.quarantine.prepare", lambda **_: None)
    settings.cache_clear()
    two = TwoEnds(warehouse, shop)
    two.source("create table orders (id int primary key, quantity int, person text)")
    two.source("insert into orders values (1, 1, 'zqann'), (2, -2, 'zqbob'), (3, -3, 'zqcyd')")
    asyncio.run(two.load(TABLE))
    yield two
    settings.cache_clear()


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["quarantine", *arguments])
    assert done.exit_code == code, done.output + repr(done.exception)
    return " ".join(done.output.split())


def test_rows_are_counted_shown_masked_and_revealed_for_a_recorded_reason(ends: TwoEnds) -> None:
    assert "shop.orders │ quantity_positive │ 2" in run("list")
    assert "no row in quarantine is open" in run("list", "shop", "--rule", "another")
    assert "no row in quarantine is resolved" in run("list", "shop.orders", "--resolved")
    assert "no row in quarantine is open" in run("list", "shop.orders", "--until", "2020-01-01")

    shown = run("show", "shop.orders")

    assert "zq" not in shown
    assert "-2" not in shown
    assert "quantity │ number │ 2 │ yes │ ***" in shown
    assert "person │ string │ 5 │ │ ***" in shown
    assert ends.raw("select from ops.reveals") == []
    assert "only for a reason" in str(CliRunner().invoke(app, ["quarantine", "show", "1", "--reveal"]).exception)
    ((number,),) = ends.raw("select quarantine_id from quarantine.rows where row_key ->> 'id' = '2'")
    assert "zqbob" in run("show", str(number), "--reveal", "--reason", "ticket 88")
    assert ends.raw("select place, quarantine_ids, rows, reason, revealed_by <> '' from ops.reveals") == [
        ("shop.orders", [number], 1, "ticket 88", True)
    ]


@pytest.mark.parametrize(
    "statement",
    ["delete from ops.reveals", "truncate ops.reveals", "update ops.reveals set revealed_by = 'nobody'",
     "update ops.reveals set reason = 'another'"],
)  # fmt: skip
def test_what_was_revealed_is_only_added(ends: TwoEnds, statement: str) -> None:
    run("show", "shop.orders", "--reveal", "--reason", "zqann called")
    with pytest.raises(Exception, match="only added"):
        ends.raw(statement)
    ends.raw("update ops.reveals set reason = '[erased] called'")  # as an erasure does


def test_a_row_is_fixed_loaded_and_another_discarded(ends: TwoEnds) -> None:
    two, three = (
        str(row[0]) for row in ends.raw("select quarantine_id from quarantine.rows order by row_key ->> 'id'")
    )
    assert "replay" in run("fix", two, "--set", "quantity=2", "--reason", "a sign")
    assert "would be refused again: quantity_positive" in run("fix", three, "--set", "person=x", "--reason", "a name")
    assert "--set needs a column" in str(
        CliRunner().invoke(app, ["quarantine", "fix", two, "--set", "quantity", "--reason", "r"]).exception
    )

    planned = run("replay", "--plan")
    assert "would be loaded" in planned
    assert "refused again: quantity_positive" in planned
    assert ends.raw("select from raw_shop.orders where id = 2") == []
    assert "refused again" in run("replay", "shop.orders", code=1)
    assert ends.raw("select quantity from raw_shop.orders where id = 2") == [(2,)]
    assert "1 row discarded" in run("discard", three, "--reason", "a test order")

    assert "no row to load again" in run("replay")
    resolved = run("list", "--resolved")
    assert "fixed by hand" in resolved
    assert "discarded" in resolved
    shown = run("show", two, three)
    assert "a sign" in shown
    assert "a test order" in shown
    assert "zq" not in shown


def test_silver_is_shown_and_is_not_fixed_here(ends: TwoEnds) -> None:
    run_sql(
        ends.warehouse.url("transformer"),
        "create table silver_quarantine.quarantine_order as select 'BL01' as rule_id, 'odd' as rule, now() as "
        """_extracted_at, '{"id": 7, "person": "zqann"}'::jsonb as row_data""",
    )

    assert "silver_quarantine.quarantine_order │ odd │ 1" in run("list")
    shown = run("show", "silver_quarantine.quarantine_order")
    assert "zqann" not in shown
    assert "fixed at the source or in the model" in shown
    revealed = run("show", "silver_quarantine.quarantine_order", "--reveal", "--reason", "ticket 89")
    assert "zqann" in revealed
    assert ends.raw("select place, rows from ops.reveals") == [("silver_quarantine.quarantine_order", 1)]


def test_a_role_without_rights_is_told(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", ends.warehouse.url("reader"))
    settings.cache_clear()
    refused = CliRunner().invoke(app, ["quarantine", "list", "shop"])
    assert refused.exit_code != 0
    assert "permission" in str(refused.exception).lower() or "may not" in str(refused.exception).lower()
