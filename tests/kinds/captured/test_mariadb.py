"""A real MariaDB with triggers: what changes arrives, whatever the order of commits and wherever loads are killed."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from flows.declare import Rule, Triggers
from flows.failures.failpoints import FAILPOINTS
from flows.kinds.captured import foreign
from flows.kinds.captured.foreign_setup import capture_status, tear_down
from flows.values.errors import ConfigurationError
from tests.eventually import eventually
from tests.kinds.captured.mariadb_ends import CHANGES, Ends
from tests.kinds.captured.overlapping import Writers
from tests.kinds.captured.test_changes import OF_OTHERS
from tests.kinds.conformance import forking
from tests.kinds.databases.loading import MISSING
from tests.publish.two_ends import run_sql

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.xdist_group("mariadb")]
pytest.importorskip("arrow_odbc", reason="the extra `databases` is not installed", exc_type=ImportError)


@pytest.fixture
def ends(erp: Ends) -> Ends:
    return erp


async def test_every_kind_of_change_arrives_and_is_deleted_at_the_source(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items select seq, concat('item ', seq) from seq_1_to_20")
    first = await ends.load()
    assert (first.strategy, first.counts.reconciliation) == ("initial", "match")
    assert ends.waiting() == []

    ends.server.run(
        "update items set name = upper(name) where id <= 3; update items set id = 100 where id = 4; "
        "delete from items where id in (5, 6); replace into items values (7, 'again'); "
        "start transaction; savepoint s; delete from items; rollback to s; insert into items values (21, 'kept'); "
        "commit; start transaction; insert into items values (22, 'never'); rollback"
    )
    assert {"D4", "I100", "D5", "U1", "I21"} <= set(ends.waiting())
    result = await ends.load()

    counts = result.counts
    assert (result.strategy, counts.rows_read, counts.rows_deleted) == ("merge", 6, 3)
    assert counts.reconciliation == "match"
    assert ends.same()
    assert ends.waiting() == []
    assert (await ends.load()).counts.rows_read == 0


async def test_quarantined_rows_leave_when_they_are_fixed_or_deleted(ends: Ends) -> None:
    ends.table = replace(ends.table, rules=(Rule("named", "name <> ''"),), max_quarantined=0.9)
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, ''), (3, ''), (4, 'd')")
    assert (await ends.load()).counts.rows_quarantined == 2
    ends.server.run("update items set name = 'd2' where id = 4")
    assert (await ends.load()).counts.reconciliation == "match"
    open_rows = "select count(*) from quarantine.rows where resolved_at is null"
    assert run_sql(ends.warehouse.url("loader"), open_rows) == [(2,)]
    ends.server.run("update items set name = 'b' where id = 2; delete from items where id = 3")
    assert (await ends.load()).counts.reconciliation == "match"
    assert run_sql(ends.warehouse.url("loader"), open_rows) == [(0,)]
    assert ends.same()


@pytest.mark.long
async def test_killed_anywhere_nothing_is_lost_or_doubled(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items select seq, 'x' from seq_1_to_50")
    await ends.load()
    for number, failpoint in enumerate(sorted(set(FAILPOINTS) - OF_OTHERS)):
        ends.server.run(
            f"insert into items values ({100 + number}, '{failpoint}'); delete from items where id = {number + 1}; "
            f"update items set name = '{failpoint}' where id = 40"
        )
        done = forking.run(
            "tests.kinds.conformance.one_load",
            ["tests.kinds.captured.mariadb_killable"],
            {
                "MEDALLION_SOURCE_ERP_URL": ends.server.url,
                "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
                "MEDALLION_FAILPOINT": failpoint,
            },
        )
        assert done.returncode == -signal.SIGKILL, (failpoint, done.stderr)
        assert len(ends.waiting()) == 3
        counts = (await ends.load()).counts
        assert (counts.reconciliation, counts.rows_deduplicated) == ("match", 0)
        assert (ends.same(), ends.waiting()) == (True, [])


class _Session:
    """A client that goes on after an error: a deadlock rolls its transaction back."""

    def __init__(self, ends: Ends) -> None:
        self.process = subprocess.Popen(
            [*ends.server.client, "--unbuffered", "--force"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.execute("start transaction")

    def execute(self, statement: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{statement};\nselect 'done';\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "done"

    def commit(self) -> None:
        self.execute("commit; start transaction")

    def rollback(self) -> None:
        self.execute("rollback; start transaction")

    def close(self) -> None:
        self.execute("commit")
        self.process.communicate(timeout=10)


async def test_nothing_is_lost_whatever_the_order_of_commits(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items select seq, 'x' from seq_0_to_399")
    writers = Writers(lambda: _Session(ends))
    threads = writers.start()
    try:
        for number in range(6):
            result = await ends.load()
            assert result.counts.reconciliation == "match"
            assert result.strategy == ("merge" if number else "initial")
    finally:
        writers.enough.set()
        for thread in threads:
            thread.join()
    assert writers.failures == []
    await ends.load()
    assert ends.same()
    assert ends.waiting() == []


async def _overlapped(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    with ends.server.open_session() as early:
        early.run("start transaction; update items set name = 'early' where id = 1")
        ends.server.run("update items set name = 'late' where id = 2")
        await ends.load()
        early.run("commit")
    await ends.load()


async def test_a_transaction_that_commits_late_is_not_lost(ends: Ends) -> None:
    await _overlapped(ends)
    assert ends.same()


async def test_a_transaction_that_stays_open_does_not_keep_what_was_loaded(ends: Ends) -> None:
    """A range of ids would lock the id that follows it, and wait for its transaction."""
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    with ends.server.open_session() as late:
        ends.server.run("insert into items values (3, 'c'), (4, 'd'), (5, 'e')")
        late.run("start transaction; update items set name = 'open' where id = 1")
        await ends.load()
        assert ends.waiting() == []
        late.run("commit")
    assert ends.waiting() == ["U1"]
    await ends.load()
    assert ends.same()


async def test_a_reader_by_high_water_mark_loses_it(ends: Ends) -> None:
    """The control: it reads what is beyond the highest id that it has read."""
    marks: list[int] = []

    async def up_to_the_highest(run: Any, planned: Any) -> None:
        marks.extend(last for _, last in planned.taken.runs)

    def beyond(state: Any) -> str:
        made = state.statements
        return f"s.id in (select id from {made.changes} where capture_id > {max(marks, default=0)})"

    with (
        patch.object(foreign, "acknowledge_foreign", up_to_the_highest),
        patch.object(foreign, "recorded_foreign", beyond),
    ):
        await _overlapped(ends)
    assert not ends.same()


async def test_what_interrupts_capture_is_noticed(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    ends.server.run(f"drop trigger {CHANGES}__u; update items set name = 'unseen' where id = 1")
    with pytest.raises(ConfigurationError, match="a trigger was dropped"):
        await ends.load()
    await ends.set_up()
    assert ((await ends.load()).strategy, ends.same()) == ("reload", True)

    ends.server.run(f"update items set name = 'lost' where id = 1; truncate {CHANGES}")
    assert ((await ends.load()).strategy, ends.same()) == ("reload", True)
    ends.server.run("truncate items; insert into items values (3, 'after')")
    ends.table = replace(ends.table, max_deleted=1.0)
    assert ((await ends.load()).strategy, ends.same()) == ("reload", True)
    assert (await ends.load()).strategy == "merge"


async def test_beyond_the_limit_the_change_table_is_emptied_and_the_next_load_reads_in_full(ends: Ends) -> None:
    """By an event of the server, also while nothing is loaded. Its schedule is shortened here."""
    ends.triggers = Triggers(max_waiting=6_400)  # a hundred rows
    await ends.create()
    ends.server.run("insert into items values (1, 'a')")
    await ends.load()
    ends.server.run("insert into items select seq, 'x' from seq_100_to_1999")
    (status,) = (await ends.as_owner(capture_status)).tables  # type: ignore[attr-defined]
    assert "larger than max_waiting" in status.problem
    ends.server.run(f"set global event_scheduler = on; alter event {CHANGES}__l on schedule every 1 second")
    eventually(lambda: ends.waiting() == [], 30)
    result = await ends.load()
    assert (result.strategy, ends.same()) == ("reload", True)
    ends.server.run("update items set name = 'recorded' where id = 1")
    assert ((await ends.load()).strategy, ends.same()) == ("merge", True)


async def test_a_load_that_finds_too_much_empties_it_itself(ends: Ends) -> None:
    ends.triggers = Triggers(max_waiting=6_400)
    await ends.create()
    await ends.load()
    ends.server.run("insert into items select seq, 'x' from seq_100_to_1999")
    assert ((await ends.load()).strategy, ends.same(), ends.waiting()) == ("reload", True, [])
    assert (await ends.load()).strategy == "merge"


async def test_both_ends_are_compared_by_counts(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    assert (await ends.compare()).result == "match"
    run_sql(ends.warehouse.url("loader"), "delete from raw_erp.items where id = 1")
    assert (await ends.compare()).result == "different"


async def test_recorded_keys_are_pending_in_a_comparison_by_counts(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, 'b'), (3, 'c')")
    await ends.load()
    ends.server.run("insert into items values (4, 'd'), (5, 'e')")
    found = await ends.compare()
    assert (found.result, found.pending) == ("match", 2)
    ends.server.run("delete from items where id in (1, 2, 3)")
    found = await ends.compare()
    assert (found.result, found.differences) == ("match", 0)
    run_sql(ends.warehouse.url("loader"), "delete from raw_erp.items where id <= 3")
    ends.server.run(f"delete from {CHANGES}")
    assert (await ends.compare()).result == "different"


async def test_nothing_is_left_behind_when_capture_is_dropped(ends: Ends) -> None:
    await ends.create()
    assert all(step.done for step in await ends.as_owner(tear_down))
    assert ends.server.run("show triggers") == ""
    assert ends.server.run("show tables") == "items\n"
    ends.server.run("insert into items values (1, 'goes on')")
