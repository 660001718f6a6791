"""A log is followed: changes are in raw soon after their commit, and nothing is lost when following ends anyhow."""

import functools
from typing import Any

import pytest

from flows.kinds.changelog.follow import rounds
from tests.kinds.changelog.followed import catch_up, followed, until
from tests.kinds.changelog.log_ends import LogEnds
from tests.kinds.changelog.test_changes import ROWS

REQUEST = (
    "insert into ops.reload_requests (source_system, table_name, requested_by) values ('shop', 'items', 'somebody')"
)
FOLLOWED = "select exists (select from ops.loads where strategy = 'follow' and status = 'published')"
COLUMNS = "id bigint primary key, name text, amount int"


async def test_changes_arrive_without_a_run(ends: LogEnds) -> None:
    """Also the snapshot, which a table needs that was never loaded."""
    ends.create("items", COLUMNS)
    ends.source(ROWS.format(1, 20))
    await ends.set_up()
    async with followed(ends):
        await until(lambda: ends.raw("select to_regclass('raw_shop.items') is not null") == [(True,)])
        ends.source("update items set amount = -1 where id = 3")
        ends.source("delete from items where id = 4")
        ends.source("update items set id = 105 where id = 5")
        ends.source(ROWS.format(30, 32))
        await until(ends.same)
    assert ends.same()


async def test_it_ends_once_it_has_caught_up(ends: LogEnds) -> None:
    ends.create("items", COLUMNS)
    ends.create("others", COLUMNS)
    ends.source(ROWS.format(1, 20))
    await ends.set_up()
    await ends.load("items")
    ends.source("update items set amount = -1 where id = 3")

    progress = await catch_up(ends)

    assert ends.same("items")
    assert ends.same("others")
    assert (progress.commits, progress.changes, progress.failing) == (1, 1, {})


async def test_a_table_without_changes_is_shown_to_be_followed_and_keeps_its_result(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tables' changes move its position, so that the log is released; its one row says until when."""
    monkeypatch.setattr(rounds, "_SHOW_SECONDS", 0.2)
    for name in ("items", "others"):
        ends.create(name, COLUMNS)
    ends.source(ROWS.format(1, 20))
    await ends.set_up()
    await ends.load("items")
    await ends.load("others")
    told = (
        "select window_upper, rows_read, reconciliation from ops.loads "
        "where table_name = 'others' and strategy = 'follow'"
    )
    async with followed(ends):
        ends.source("update items set amount = 0")
        await until(lambda: len(ends.raw(told)) == 1)
        before = (await ends.look()).confirmed
        for number in range(1, 4):
            (first,) = ends.raw(told)
            ends.source(f"update items set amount = -{number}")
            await until(functools.partial(_moved, ends, told, first))
        await until(ends.same)
    assert [row[1:] for row in ends.raw(told)] == [(0, "match")]
    assert ((await ends.look()).confirmed or 0) > (before or 0)


def _moved(ends: LogEnds, told: str, first: Any) -> bool:
    return bool(ends.raw(told)[0][0] > first[0])


async def test_a_reload_that_is_requested_is_made_while_following(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_SHOW_SECONDS", 0.2)
    monkeypatch.setattr(rounds, "STRETCH_SECONDS", 0.5)
    ends.create("items", COLUMNS)
    ends.source(ROWS.format(1, 20))
    await ends.set_up()
    await ends.load()
    reloaded = "select count(*) from ops.loads where strategy = 'reload' and status = 'published'"
    async with followed(ends):
        ends.source("update items set amount = 0")
        await until(lambda: ends.raw(FOLLOWED) == [(True,)])
        ends.raw("update raw_shop.items set amount = 7 where id = 7")
        ends.raw(REQUEST)
        ends.source("update items set amount = -1 where id = 1")
        await until(lambda: ends.raw(reloaded) == [(1,)])
        await until(ends.same)


async def test_what_stretches_count_is_compared_when_they_end(ends: LogEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is lost on the way to raw is found at the end of a stretch, and the table is read again."""
    monkeypatch.setattr(rounds, "STRETCH_SECONDS", 0.5)
    ends.create("items", COLUMNS)
    ends.source(ROWS.format(1, 20))
    await ends.set_up()
    await ends.load()
    async with followed(ends):
        ends.source("update items set amount = -1")
        await until(ends.same)
        ends.raw("delete from raw_shop.items where id = 7")
        ends.source("update items set amount = -2 where id = 1")
        await until(ends.same)
    assert ("missing",) in ends.raw("select reconciliation from ops.loads where strategy = 'follow'")
