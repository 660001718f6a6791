"""A log is followed: changes are in raw soon after their commit, and nothing is lost when following ends anyhow."""

from tests.kinds.changelog.followed import catch_up, followed, until
from tests.kinds.changelog.log_ends import LogEnds
from tests.kinds.changelog.test_changes import ROWS

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
