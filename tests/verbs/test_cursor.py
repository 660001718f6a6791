"""A person looks at stored cursors, and moves one: with a preview, and not under a load that is running."""

import asyncio
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from flows.access.addresses import connect
from flows.cli.app import app
from flows.cli.source_tables import cursors_table
from flows.declare import Append, Epoch, Merge, Replace, Sequence, Timestamp, TransactionId
from flows.kinds.api import Api, Endpoint, Parent, SinglePage
from flows.kinds.postgres import Database, Table
from flows.state import table_locks
from flows.values.errors import DeclarationError, LoadLocked
from flows.values.settings import settings
from flows.verbs.cursor import move_cursor, plan_reload, stored_cursors
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

ITEMS = Table("items", key="id", cursor=Timestamp("at"), load=Merge())
LOG = Table("log", cursor=Sequence("id"), load=Append())
SHOP = Database("shop", connection="shop", tables=[
    ITEMS, LOG,
    Table("traced", key="id", cursor=TransactionId(), load=Merge()),
    Table("copied", key="id", load=Replace()),
    Table("epochs", key="id", cursor=Epoch("at"), load=Merge()),
])  # fmt: skip


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (SHOP,))
    settings.cache_clear()
    ends = TwoEnds(warehouse, shop)
    ends.source(
        "create table items (id int primary key, v int, at timestamptz);"
        "insert into items select n, n, timestamptz '2017-01-01' + n * interval '1 d' from generate_series(1, 20) n;"
        "create table log (id int generated always as identity, v int);"
        "insert into log (v) select n from generate_series(1, 20) as n;"
        "create table traced as select id, v from items; create table copied as select id, v from items;"
        "grant select on all tables in schema public to public"
    )
    yield ends
    settings.cache_clear()


def everything(ends: TwoEnds) -> object:
    return ends.raw(
        "select c::text from ops.cursors as c union all select r::text from ops.reload_requests as r order by 1"
    )


async def test_the_stored_cursors_are_shown_with_what_they_belong_to(ends: TwoEnds) -> None:
    await ends.load(LOG)

    shown = {stored.table: stored for stored in await stored_cursors(["shop.log", "shop.items"])}

    assert list(shown) == ["shop.items", "shop.log"]
    assert (shown["shop.log"].value, shown["shop.items"].value) == ("20", None)
    assert shown["shop.log"].identity["source"]["database"] == ends.shop.name


async def test_a_preview_says_what_the_next_load_would_read_and_changes_nothing(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    before = everything(ends)

    back = await move_cursor("shop.items", "2017-01-11", "ada", only_plan=True)
    whole = await move_cursor("shop.items", None, "ada", only_plan=True)
    (reload,) = await plan_reload(["shop.items"], "ada")

    assert (back.rows, back.goes_back, back.applied) == (11, True, False)
    assert (whole.rows, whole.after, reload.rows, reload.plan.strategy) == (20, None, 20, "reload")
    assert everything(ends) == before


async def test_the_next_load_begins_where_the_cursor_was_set(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("update items set v = -v")

    moved = await move_cursor("shop.items", "2017-01-11", "ada")
    result = await ends.load(ITEMS)

    assert moved.after == "2017-01-11 00:00:00+00"
    assert (result.strategy, result.counts.rows_read, result.counts.rows_updated) == ("merge", 11, 11)
    await move_cursor("shop.items", None, "ada")
    assert (await ends.load(ITEMS)).counts.rows_updated == 9
    assert ends.same("items", "id, v")


async def test_what_would_double_rows_or_decide_nothing_is_refused_with_the_fix(ends: TwoEnds) -> None:
    with pytest.raises(DeclarationError, match="never loaded"):
        await move_cursor("shop.log", "7", "ada")
    await ends.load(LOG)
    for value in ("7", None):
        with pytest.raises(DeclarationError, match="twice") as refused:
            await move_cursor("shop.log", value, "ada")
        assert "--recreate" in refused.value.fix
    for table, value in (("copied", "7"), ("traced", "7"), ("copied", None)):
        with pytest.raises(DeclarationError, match="no stored value"):
            await move_cursor(f"shop.{table}", value, "ada")
    with pytest.raises(DeclarationError, match="not of type integer"):
        await move_cursor("shop.log", "x'; drop table log", "ada")
    assert (await move_cursor("shop.log", "25", "ada")).goes_back is False


async def test_a_cursor_is_not_moved_under_a_load(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    before = everything(ends)
    async with connect(ends.warehouse_address, side="warehouse") as loading:
        assert await table_locks.lock_table(loading, "shop", "items")
        for only_plan in (True, False):
            with pytest.raises(LoadLocked) as refused:
                await move_cursor("shop.items", None, "ada", only_plan=only_plan)
            assert refused.value.retryable
        with pytest.raises(LoadLocked):
            await plan_reload(["shop.items"], "ada")
    assert everything(ends) == before
    await ends.load(ITEMS)


async def test_a_preview_that_fails_leaves_no_lock(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("alter table items rename to away")
    with pytest.raises(Exception, match="does not exist"):
        await move_cursor("shop.items", None, "ada")
    ends.source("alter table away rename to items")

    assert (await ends.load(ITEMS)).strategy == "merge"


def test_the_commands_print_it(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cursor", "run"):  # it sets up the process
        monkeypatch.setattr(f"flows.cli.{module}.prepare", lambda **_: None)
    asyncio.run(ends.load(ITEMS))
    runner = CliRunner()
    shown = runner.invoke(app, ["cursor", "show", "shop.items"])
    planned = runner.invoke(app, ["reload", "shop.items", "--plan"])
    assert (shown.exit_code, planned.exit_code) == (0, 0), repr(planned.exception)
    assert "Timestamp(at)" in shown.output.replace("\n", "")
    assert "nothing was changed" in planned.output
    moved = runner.invoke(app, ["cursor", "reset", "shop.items"])
    assert moved.exit_code == 0, moved.output


async def test_the_cursor_of_children_is_shown_as_the_batch_that_it_is(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the latest batch of their parents that was read; each parent has its own cursor."""
    messages = Endpoint("messages", path="/channels/{id}", parent=Parent("channels", column="channel"))
    endpoints = [Endpoint("channels", path="/channels"), messages]
    chats = Api("chats", connection="chats", pagination=SinglePage(), endpoints=endpoints)
    monkeypatch.setattr("flows.verbs.find.SOURCES", (chats,))
    await stored_cursors(None)  # makes the schema
    into = "insert into ops.cursors (source_system, table_name, cursor_value, batch_id)"
    ends.raw(f"{into} values ('chats', 'channels', '17', 17), ('chats', 'messages', '17', 17)")

    shown = [str(cell) for cell in cursors_table(await stored_cursors(None)).columns[2].cells]

    assert shown == ["", "latest batch of channels that was read"]
