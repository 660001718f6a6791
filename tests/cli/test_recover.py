"""`medallion recover` on the terminal: what it shows before, when it refuses to ask, what it says afterwards."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds
from tests.verbs.one_recovery import ITEMS, SHOP


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (replace(SHOP, tables=[ITEMS]),))
    monkeypatch.setattr("flows.cli.recover.prepare", lambda **_: None)
    settings.cache_clear()
    two = TwoEnds(warehouse, shop)
    two.source("create table items (id int primary key, v int, at timestamptz)")
    two.source("insert into items select n, n, timestamptz '2017-01-01' from generate_series(1, 20) as n")
    asyncio.run(two.load(ITEMS))
    two.raw("update raw_shop.items set v = 99 where id in (3, 4)")
    yield two
    settings.cache_clear()


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["recover", *arguments])
    assert done.exit_code == code, done.output + repr(done.exception)
    return " ".join(done.output.split())


def test_it_shows_what_it_would_do_and_does_it_after_a_yes_with_a_reason(ends: TwoEnds) -> None:
    with setting(price_per_hour=36_000.0):
        shown = run("shop.items", "--plan")
    assert "2 different" in shown
    assert "repair: 2 rows differ" in shown
    assert "EUR" in shown
    assert "nothing was changed" in shown
    assert "there is nobody to ask" in run("shop.items", code=2)
    assert "--reason" in run("shop.items", "--yes", code=2)
    assert ends.raw("select count(*) from raw_shop.items where v = 99") == [(2,)]
    assert ends.raw("select from ops.recoveries") == []

    assert "match" in run("shop.items", "--yes", "--reason", "a script wrote into raw")

    assert ends.same("items", "id, v")
    assert ends.raw("select plan, reason, recovered_by <> '', outcome from ops.recoveries") == [
        ("repair 2 rows", "a script wrote into raw", True, "match")
    ]
    assert "nothing" in run("shop.items", "--yes", "--reason", "again")
    assert ends.raw("select count(*) from ops.recoveries") == [(1,)]


def test_days_need_one_table_and_an_order(ends: TwoEnds) -> None:
    for wrong in (["shop", "shop.items", "--from", "2017-01-01"], ["shop.items", "--to", "2017-01-01"],
                  ["shop.items", "--from", "2017-02-01", "--to", "2017-01-01"]):  # fmt: skip
        done = CliRunner().invoke(app, ["recover", *wrong])
        assert getattr(done.exception, "exit_code", None) == 2, wrong
