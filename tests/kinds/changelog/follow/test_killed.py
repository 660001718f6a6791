"""Wherever following dies, each change is in raw once; and the tests would notice if it were not."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest

from flows.kinds.changelog import applying
from flows.values.errors import SourceUnavailable
from tests.kinds.changelog.followed import catch_up
from tests.kinds.changelog.log_ends import LogEnds
from tests.kinds.changelog.test_at_rest import position_apart
from tests.kinds.changelog.test_changes import LONG
from tests.kinds.conformance import forking

#: In the order of a commit.
FAILPOINTS = (
    "after_lock",
    "after_landing_created",
    "after_copy",
    "after_check",
    "in_publish_before_rows",
    "in_publish_after_rows",
    "in_publish_before_commit",
    "after_commit",
)
COUNTED = "select sum(inserts)::int, sum(updates)::int, sum(deletes)::int from ops.change_counts"


async def start(ends: LogEnds) -> None:
    """Items that have been followed, and changes that have not: 2 inserts, 3 updates with one of a key, 2 deletes."""
    ends.create("items", "id bigint primary key, amount int, note text")
    ends.source(f"insert into items select n, n, {LONG} from generate_series(1, 9) as n")
    await ends.set_up()
    await ends.load()
    ends.source("update items set amount = 50 where id = 5")
    ends.source("update items set id = 40 where id = 4")
    ends.source("begin; delete from items where id = 3; insert into items values (3, 30, 'again'); commit")
    ends.source("insert into items values (10, 10, 'new')")
    ends.source(
        "begin; update items set amount = 70 where id = 7; savepoint s; delete from items; rollback to s; commit"
    )
    ends.source("delete from items where id = 2")


@pytest.mark.parametrize("failpoint", FAILPOINTS)
async def test_killed_it_goes_on_where_it_was(ends: LogEnds, failpoint: str) -> None:
    await start(ends)
    variables = {
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
        "MEDALLION_FAILPOINT": failpoint,
    }
    done = forking.run("tests.kinds.changelog.follow.one_follow", ["tests.kinds.changelog.killable"], variables)
    assert done.returncode == -signal.SIGKILL, done.stderr

    await catch_up(ends)

    assert ends.same()
    assert ends.raw(COUNTED) == [(2, 3, 2)]
    assert (await ends.load()).counts.reconciliation == "match"
    assert ends.raw("select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r'") == []


async def test_a_commit_that_fails_is_made_up_for(ends: LogEnds) -> None:
    await start(ends)
    with interrupted():
        await catch_up(ends)
    await catch_up(ends)
    assert ends.same()


async def test_a_position_that_is_committed_apart_from_its_rows_would_be_noticed(ends: LogEnds) -> None:
    """The control: the same with a fault."""
    await start(ends)
    with position_apart(), interrupted():
        await catch_up(ends)
    await catch_up(ends)
    assert not ends.same()


def interrupted() -> AbstractContextManager[Callable[..., object]]:
    """Nothing commits: each transaction fails at its end."""
    problem = SourceUnavailable("interrupted", where="test", fix="", retryable=True)
    return patch.object(applying, "_note", side_effect=problem)
