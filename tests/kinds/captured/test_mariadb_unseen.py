"""What MariaDB's triggers do not see, or what applications do that they must not disturb."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.declare import Merge, Triggers
from flows.kinds.captured import Table, foreign
from flows.kinds.captured.foreign_setup import capture_status, set_up, tear_down
from flows.values.errors import ConfigurationError, SourceError
from tests.conftest import TestCluster, fresh_warehouse
from tests.eventually import eventually
from tests.kinds.captured.mariadb_ends import CHANGES, Ends
from tests.kinds.databases.loading import MISSING

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.xdist_group("mariadb")]
pytest.importorskip("arrow_odbc", reason="the extra `databases` is not installed", exc_type=ImportError)


@pytest.fixture
def ends(erp: Ends) -> Ends:
    return erp


async def test_keys_equal_but_for_their_case_or_blanks(ends: Ends) -> None:
    """For MariaDB they are equal, for PostgreSQL another key."""
    await ends.create("id varchar(20) primary key, name varchar(40)")
    ends.server.run("insert into items values ('a', 'x'), ('b', 'y'), ('c', 'z')")
    await ends.load()
    ends.server.run(
        "update items set id = 'A' where id = 'a'; update items set id = 'b ' where id = 'b'; "
        "delete from items where id = 'C'"
    )
    result = await ends.load()
    assert (result.counts.reconciliation, result.counts.rows_deleted) == ("match", 3)
    assert ends.same()


async def test_rows_that_a_foreign_key_deletes_are_gone_with_the_same_load(ends: Ends) -> None:
    """They fire no trigger, so keys are compared."""
    ends.server.run("create table parents (id bigint primary key); insert into parents values (1), (2)")
    await ends.create(
        "id bigint primary key, name varchar(40), parent bigint, "
        "foreign key (parent) references parents (id) on delete cascade"
    )
    ends.server.run("insert into items values (10, 'a', 1), (11, 'b', 1), (20, 'c', 2)")
    await ends.load()
    ends.server.run("delete from parents where id = 1; update items set name = 'd' where id = 20")
    assert ends.waiting() == ["U20"]
    counts = (await ends.load()).counts
    assert (counts.rows_read, counts.rows_deleted, counts.reconciliation) == (1, 2, "match")
    assert ends.live() == [("20", "d")]


@pytest.mark.parametrize("rule", ["on delete set null", "on update cascade"])
async def test_a_foreign_key_that_updates_rows_is_refused(ends: Ends, rule: str) -> None:
    """By whoever looks: the owner in `setup`, and the account that reads once the key is there."""
    ends.server.run("create table parents (id bigint primary key)")
    key = f"foreign key (parent) references parents (id) {rule}"
    await ends.create("id bigint primary key, name varchar(40), parent bigint")
    await ends.load()
    ends.server.run(f"alter table items add {key}")
    with pytest.raises(SourceError, match="fire no trigger in InnoDB") as refused:
        await ends.load()
    assert not refused.value.retryable
    with pytest.raises(SourceError, match=rule):
        await ends.as_owner(set_up, "reader")


def last_run(ends: Ends) -> str:
    return ends.server.run("select last_executed from information_schema.events where event_schema = 'erp'").strip()


async def test_writers_do_not_wait_while_the_limit_waits_for_an_open_transaction(ends: Ends) -> None:
    """The event's `truncate` waits for it, and every other writer behind the event."""
    ends.triggers = Triggers(max_waiting=6_400)  # a hundred rows
    await ends.create()
    ends.server.run("insert into items select seq, 'x' from seq_100_to_1999")
    with ends.server.open_session() as early:
        early.run("start transaction; update items set name = 'open' where id = 100")
        ends.server.run(f"set global event_scheduler = on; alter event {CHANGES}__l on schedule every 1 second")
        eventually(lambda: last_run(ends) != "NULL", 30)
        for number in range(3):
            written = asyncio.to_thread(ends.server.run, f"insert into items values ({number}, 'goes on')")
            await asyncio.wait_for(written, 45)  # it would wait for as long as the transaction is open
        early.run("commit")
    eventually(lambda: len(ends.waiting()) < 100, 30)
    ends.server.run("set global event_scheduler = off")
    await ends.load()
    assert ends.same()


async def test_a_trigger_that_was_replaced_is_refused(ends: Ends) -> None:
    await ends.create()
    ends.server.run("insert into items values (1, 'a')")
    await ends.load()
    ends.server.run(f"drop trigger {CHANGES}__u")
    ends.server.run(f"create trigger {CHANGES}__u after update on items for each row set @nothing = 1")
    with pytest.raises(ConfigurationError, match=f"the trigger {CHANGES}__u was changed"):
        await ends.load()
    ends.server.run("update items set name = 'unseen'")
    await ends.set_up()
    await ends.load()
    assert ends.same()


async def test_without_its_event_nothing_limits_the_change_table(ends: Ends) -> None:
    await ends.create()
    ends.server.run(f"alter event {CHANGES}__l disable")
    with pytest.raises(ConfigurationError, match="the event that limits the change table"):
        await ends.load()
    await ends.set_up()
    await ends.load()


async def test_a_changed_limit_is_set_up_again(ends: Ends) -> None:
    await ends.create()
    ends.triggers = Triggers(max_waiting="2 GB")
    with pytest.raises(ConfigurationError, match="the declared limit was changed"):
        await ends.load()
    await ends.set_up()
    assert await ends.set_up() == []


@pytest.mark.parametrize("name", ["items", "it-ems \u00fc"])
async def test_a_truncate_is_noticed_whatever_the_table_is_called(ends: Ends, name: str) -> None:
    """InnoDB encodes names, and the table is known by the number that InnoDB gives it."""
    ends.server.run(f"create table `{name}` (id bigint primary key, name varchar(40))")
    ends.table = replace(ends.table, source_name=name, max_deleted=1.0)
    await ends.set_up()
    ends.server.run(f"insert into `{name}` values (1, 'a'), (2, 'b')")
    await ends.load()
    ends.server.run(f"truncate `{name}`; insert into `{name}` values (3, 'c')")
    result = await ends.load()
    assert (result.strategy, result.counts.rows_deleted) == ("reload", 2)
    assert ends.live() == [("3", "c")]


@pytest.fixture
def partitioned(ends: Ends) -> Ends:
    ends.server.run(
        "create table items (id bigint primary key, name varchar(40)) partition by range (id) "
        "(partition low values less than (100), partition high values less than (200))"
    )
    return ends


@pytest.mark.parametrize(
    "change",
    [
        "create table others (id bigint primary key, name varchar(40)); insert into others values (1, 'A'), (2, 'B'); "
        "alter table items exchange partition low with table others",
        "alter table items truncate partition high; insert into items values (102, 'new')",
        "truncate items; insert into items values (7, 'new')",
    ],
)
async def test_partitions_that_change_as_a_whole_are_noticed(partitioned: Ends, change: str) -> None:
    ends = partitioned
    await ends.set_up()
    ends.table = replace(ends.table, max_deleted=1.0)
    ends.server.run("insert into items values (1, 'a'), (2, 'b'), (101, 'c')")
    await ends.load()
    ends.server.run(change)
    assert (await ends.load()).strategy == "reload"
    assert ends.same()


async def test_every_statement_that_writes_rows_is_recorded(ends: Ends) -> None:
    ends.server.run(
        "create table news (id bigint primary key, name varchar(40)); insert into news values (1, 'A'), (4, 'D')"
    )
    await ends.create("id bigint primary key, name varchar(40) unique")
    ends.server.run("insert into items values (1, 'a'), (2, 'b'), (3, 'c')")
    await ends.load()
    ends.server.run("insert into items values (1, 'x') on duplicate key update name = 'one'")
    ends.server.run("replace into items values (5, 'b')")  # by its second unique key, row 2 goes
    ends.server.run("update items, news set items.name = news.name where items.id = news.id")
    ends.server.run("insert ignore into items select id, name from news")
    ends.server.run("delete items from items join news on items.id = news.id where news.id = 1")
    ends.server.run("xa start 'x'; insert into items values (9, 'xa'); xa end 'x'; xa prepare 'x'; xa commit 'x'")
    counts = (await ends.load()).counts
    assert (counts.rows_deleted, counts.reconciliation) == (2, "match")
    assert ends.same()


async def test_a_zero_date_as_key_does_not_stop_the_application(ends: Ends) -> None:
    """Its mode allows one, and that of the session that made the triggers does not."""
    ends.server.run("create table items (id date primary key, name varchar(40))")
    ends.server.run("insert into items values ('0000-00-00', 'a')")
    ends.server.run("set global sql_mode = concat(@@global.sql_mode, ',NO_ZERO_DATE,NO_ZERO_IN_DATE')")
    try:
        await ends.set_up()
    finally:
        ends.server.run("set global sql_mode = default")
    ends.server.run("update items set name = 'b'; delete from items")
    assert len(ends.waiting()) == 2


async def test_a_key_gets_a_larger_type_and_writers_go_on(ends: Ends) -> None:
    await ends.create("id int primary key, name varchar(40)")
    ends.server.run("insert into items values (1, 'a')")
    await ends.load()
    ends.server.run("alter table items modify id bigint; insert into items values (3000000000, 'b')")
    assert (await ends.load()).strategy == "reload"
    assert ends.same()


async def test_a_key_that_is_a_timestamp(ends: Ends) -> None:
    """In the change table it may be null, where a server's older setting would not have it."""
    await ends.create("id timestamp primary key, name varchar(40)")
    ends.server.run("insert into items values ('2024-01-01 00:00:00', 'a'), ('2024-06-01 00:00:00', 'b')")
    await ends.load()
    ends.server.run("delete from items where name = 'a'; update items set name = 'c'")
    counts = (await ends.load()).counts
    assert (counts.rows_read, counts.rows_deleted, counts.reconciliation) == (1, 1, "match")


async def test_capture_is_dropped_with_its_rights_also_if_the_table_is_gone(ends: Ends) -> None:
    await ends.create()
    ends.server.run("drop table items")
    steps = await ends.as_owner(tear_down)
    assert [step.error for step in steps if not step.done] == []
    assert ends.server.run("show tables; show events; show function status where db = 'erp'") == ""
    assert ends.server.run("select 1 from mysql.tables_priv; select 1 from mysql.procs_priv") == ""
    assert await ends.as_owner(tear_down) == []


async def test_what_is_no_longer_declared_is_removed_by_the_next_setup(ends: Ends) -> None:
    await ends.create()
    items = ends.table
    ends.server.run("create table others (id bigint primary key)")
    ends.table = Table("others", key="id", load=Merge())
    (status,) = (await ends.as_owner(capture_status)).tables[1:]  # type: ignore[attr-defined]
    assert (status.table, status.problem) == (CHANGES, "recorded, and no longer declared")
    await ends.set_up()
    assert ends.server.run("show triggers like 'items'") == ""
    ends.table = items


@pytest.fixture
def other(cluster: TestCluster, ends: Ends) -> Iterator[Ends]:
    """The same declared source, read by a second warehouse."""
    with fresh_warehouse(cluster) as warehouse:
        yield Ends(ends.server, warehouse)


async def test_two_warehouses_do_not_take_each_others_changes(
    ends: Ends, other: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.create()
    ends.server.run("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    await other.load()
    ends.server.run("update items set name = 'changed' where id = 1")
    await ends.load()
    result = await other.load()
    assert (other.same(), result.strategy) == (True, "reload")
    assert "a second warehouse reads this source" in str(result.warning)
    await ends.load()

    honest = foreign.acknowledge_foreign

    async def after_the_other(run: object, planned: object) -> None:
        monkeypatch.setattr(foreign, "acknowledge_foreign", honest)
        ends.server.run("update items set name = 'between' where id = 2")
        await other.load()
        await honest(run, planned)  # type: ignore[arg-type]

    ends.server.run("update items set name = 'first' where id = 1")
    monkeypatch.setattr(foreign, "acknowledge_foreign", after_the_other)
    await ends.load()
    await ends.load()
    assert (ends.same(), other.same()) == (True, True)


async def test_a_server_that_is_read_only_is_refused(ends: Ends) -> None:
    """A replica, where what was read cannot be deleted."""
    await ends.create()
    ends.server.run("set global read_only = on")
    try:
        with pytest.raises(ConfigurationError, match="name the primary"):
            await ends.load()
    finally:
        ends.server.run("set global read_only = off")
