"""What PostgreSQL's triggers do not see, or what applications do that they must not disturb."""

import psycopg
import pytest

from flows.declare import Merge, Triggers
from flows.kinds.captured import Table
from flows.values.errors import ConfigurationError, SourceError
from tests.kinds.captured.captured_ends import CapturedEnds


@pytest.mark.parametrize("per", ["statement", "row"])
async def test_a_key_named_as_a_variable_of_the_trigger(ends: CapturedEnds, per: str) -> None:
    """The application's writes failed: column reference "found" is ambiguous."""
    ends.triggers = Triggers(per=per)  # type: ignore[arg-type]
    await ends.create(
        "found int, is_new int, tg_op text, primary key (found, is_new, tg_op)", ("found", "is_new", "tg_op")
    )
    ends.source("insert into items values (1, 1, 'a'), (2, 2, 'b')")
    await ends.load()
    ends.source("update items set is_new = 3 where found = 1")
    ends.source("delete from items where found = 2")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_a_key_of_a_domain_that_refuses_null_can_be_truncated(ends: CapturedEnds) -> None:
    ends.source("create domain positive as bigint not null check (value > 0)")
    ends.source("create domain large as positive check (value > 9)")
    await ends.create("id large primary key, name text")
    ends.source("insert into items values (10, 'a'), (11, 'b')")
    await ends.load()
    ends.source("truncate items")
    ends.source("insert into items values (12, 'c')")
    assert (await ends.load()).counts.rows_deleted == 2
    assert ends.same()


async def test_a_key_gets_a_larger_type_and_writers_go_on(ends: CapturedEnds) -> None:
    """integer that becomes bigint: the change table has room for it."""
    await ends.create("id integer, code varchar(2), primary key (id, code)", ("id", "code"))
    ends.source("insert into items values (1, 'a')")
    await ends.load()
    ends.source("alter table items alter id type bigint, alter code type varchar(20)")
    ends.source("insert into items values (3000000000, 'longer')")
    await ends.load()
    ends.source("delete from items where id = 3000000000")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_tables_that_inherit_are_refused(ends: CapturedEnds) -> None:
    """Their rows are read with the table's, and their changes fire none of its triggers."""
    await ends.create("id bigint primary key, name text")
    await ends.load()
    ends.source("create table heirs () inherits (items)")
    with pytest.raises(SourceError, match="heirs inherits from the table") as refused:
        await ends.load()
    assert not refused.value.retryable


async def _partitioned(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text", more="partition by range (id)")
    ends.source("create table low partition of items for values from (0) to (100)")
    ends.source("create table high partition of items for values from (100) to (200)")
    ends.source("insert into items select n, 'x' from generate_series(98, 103) as n")
    await ends.load()


async def test_a_partition_whose_triggers_were_disabled_is_noticed(ends: CapturedEnds) -> None:
    await _partitioned(ends)
    ends.admin(
        "begin; alter table low disable trigger all; update low set name = 'unseen'; "
        "alter table low enable trigger all; commit"
    )
    with pytest.raises(ConfigurationError, match="the trigger of the partition low is disabled"):
        await ends.load()
    await ends.set_up()
    assert (await ends.load()).strategy == "reload"
    assert ends.same()


async def test_a_partition_that_was_away_is_read_when_it_is_attached_again(ends: CapturedEnds) -> None:
    await _partitioned(ends)
    ends.source(
        "alter table items detach partition high; update high set name = 'unseen' where id < 102; "
        "delete from high where id > 101; alter table items attach partition high for values from (100) to (200)"
    )
    result = await ends.load()
    assert (result.strategy, result.counts.rows_read) == ("merge", 2)
    assert ends.same()
    assert (await ends.load()).counts.rows_read == 0


async def test_a_new_partition_is_written_as_a_replica(ends: CapturedEnds) -> None:
    await _partitioned(ends)
    ends.source("create table more partition of items for values from (200) to (300)")
    ends.admin("begin; set local session_replication_role = replica; insert into more values (201, 'y'); commit")
    assert (await ends.load()).counts.rows_read == 1
    ends.admin("begin; set local session_replication_role = replica; update more set name = 'z'; commit")
    assert (await ends.load()).counts.rows_read == 1
    assert ends.same()


async def test_a_foreign_partition_is_refused(ends: CapturedEnds) -> None:
    ends.admin("create extension if not exists file_fdw; create server files foreign data wrapper file_fdw")
    ends.source("create table items (id bigint, name text) partition by range (id)")
    ends.source("grant select on items to public")
    ends.admin(
        "create foreign table far partition of items for values from (0) to (9) server files options (program 'true')"
    )
    ends.tables = [Table("items", key="id", load=Merge())]
    with pytest.raises(SourceError, match="the partition far is a foreign table"):
        await ends.set_up()


async def test_values_that_an_alter_table_rewrites_are_read_again(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items values (1, 'a'), (2, 'b')")
    await ends.load()
    ends.source("alter table items alter name type text using upper(name)")
    assert (await ends.load()).strategy == "reload"
    assert ends.same()
    ends.source("truncate items; insert into items values (3, 'c')")
    assert (await ends.load()).strategy == "merge", "a truncate is recorded, and rewrites nothing"
    assert ends.same()
    ends.admin("vacuum full items")
    assert (await ends.load()).strategy == "merge"


async def test_capture_of_a_table_that_is_gone_can_be_dropped(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("drop table items")
    assert all(step.done for step in await ends.drop())
    assert ends.admin("select 1 from pg_namespace where nspname = 'medallion_captured'") == []


async def test_a_renamed_table_can_be_let_go(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("alter table items rename to things")
    assert all(step.done for step in await ends.drop())
    assert ends.admin("select tgname from pg_trigger where not tgisinternal and tgrelid = 'things'::regclass") == []


async def test_what_is_no_longer_declared_is_removed_by_the_next_setup(ends: CapturedEnds) -> None:
    """Until then its writers pay for rows that nobody reads."""
    ends.source("create table others (id bigint primary key)")
    await ends.create("id bigint primary key, name text")
    items = ends.tables[0]
    ends.tables = [items, Table("others", key="id", load=Merge())]
    await ends.set_up()
    ends.tables = [items]
    steps = await ends.set_up()
    assert {step.why for step in steps} == {"its table is no longer declared"}
    assert ends.admin("select tgname from pg_trigger where not tgisinternal and tgrelid = 'others'::regclass") == []
    assert ends.waiting() == []
    await ends.load()
    ends.source("insert into items values (1, 'a')")
    assert (await ends.load()).counts.rows_read == 1


async def test_a_trigger_of_the_application_decides_what_is_recorded(ends: CapturedEnds) -> None:
    """BEFORE triggers that change or cancel rows, and an AFTER trigger that writes the table once more."""
    ends.source(
        "create function shape() returns trigger language plpgsql as $$ begin "
        "if new.name = 'never' then return null; end if; if new.id < 0 then new.id := -new.id; end if; "
        "return new; end $$"
    )
    ends.source(
        "create function echo() returns trigger language plpgsql as $$ begin "
        "if new.id < 1000 then insert into items values (new.id + 1000, 'echo'); end if; return null; end $$"
    )
    await ends.create("id bigint primary key, name text")
    ends.source("create trigger a_first before insert on items for each row execute function shape()")
    ends.source("create trigger a_last after insert on items for each row execute function echo()")
    await ends.load()
    ends.source("insert into items values (-7, 'turned'), (8, 'never')")
    assert (await ends.load()).counts.rows_read == 2
    assert ends.live("id") == [(7,), (1007,)]
    assert ends.same()


@pytest.mark.parametrize("per", ["statement", "row"])
async def test_keys_that_change_places_within_a_statement(ends: CapturedEnds, per: str) -> None:
    ends.triggers = Triggers(per=per)  # type: ignore[arg-type]
    await ends.create("id bigint primary key deferrable initially deferred, name text")
    ends.source("insert into items values (1, 'one'), (2, 'two'), (3, 'three')")
    await ends.load()
    ends.source("update items set id = 3 - id where id < 3")
    ends.source("merge into items using (values (3), (4)) as v (id) on items.id = v.id "
                "when matched then delete when not matched then insert values (v.id, 'four')")  # fmt: skip
    assert (await ends.load()).counts.rows_deleted == 1
    assert ends.same()


async def test_keys_equal_but_for_their_case(ends: CapturedEnds) -> None:
    ends.admin("create extension if not exists citext")
    await ends.create("a citext, b char(3), name text, primary key (a, b)", ("a", "b"))
    ends.source("insert into items values ('a', 'x', 'one'), ('b', 'y', 'two')")
    await ends.load()
    ends.source("update items set a = 'A', b = 'x ' where a = 'a'")
    ends.source("delete from items where a = 'B'")
    await ends.load()
    assert ends.same()


async def test_writers_cannot_turn_the_recording_function_against_its_owner(ends: CapturedEnds) -> None:
    """It runs with its owner's rights: names that a writer makes must not be found by it."""
    await ends.create("id bigint primary key, name text")
    with psycopg.connect(ends.shop.url("app"), autocommit=True) as writer:
        writer.execute("create temp table captured_new (id bigint)")
        writer.execute("create temp table pg_class (relname text)")
        writer.execute("set search_path = pg_temp, public")
        writer.execute("insert into public.items values (1, 'a')")
    assert ends.waiting() == [("I", 1)]
    assert (
        ends.admin(
            "select proname from pg_proc where pronamespace = 'medallion_captured'::regnamespace "
            "and not (prosecdef and proconfig = array['search_path=pg_catalog, pg_temp'])"
        )
        == []
    )
