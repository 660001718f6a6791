"""Columns that change at the source, by the ways that are declared for that."""

import pytest

from flows.declare import Merge
from flows.kinds.changelog import Table, inbox, reading
from flows.values.errors import MedallionError, SourceUnavailable
from tests.kinds.changelog.log_ends import LogEnds
from tests.kinds.changelog.test_changes import start


async def test_a_new_column_comes_with_the_next_change_and_without_a_copy(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = -1 where id = 1")
    ends.source("alter table items add column note text")
    ends.source("update items set note = 'new' where id = 2")

    result = await ends.load()

    assert (result.strategy, result.counts.rows_read) == ("merge", 2)
    assert result.schema_changes == ("note added",)
    assert ends.same()


@pytest.mark.parametrize(
    "change",
    [
        "alter table items add column note text default 'filled'",
        "alter table items rename column name to note",
        "alter table items add column note bigint generated always as identity",
    ],
)
async def test_values_that_no_change_brings_are_read_again(ends: LogEnds, change: str) -> None:
    await start(ends)
    ends.source(change)
    ends.source("update items set amount = -1 where id = 1")

    result = await ends.load()

    assert result.strategy == "reload"
    assert ends.same()
    ends.source("update items set amount = -1 where id = 2")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_a_dropped_column_keeps_its_last_values_and_a_dropped_and_made_one_is_read_again(ends: LogEnds) -> None:
    await start(ends)
    ends.source("alter table items drop column name")
    ends.source("update items set amount = -1 where id = 1")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()
    assert ends.raw("select count(*) from raw_shop.items where name is not null") == [(20,)]
    ends.source("alter table items add column name text")
    ends.source("update items set name = 'back' where id = 3")

    assert (await ends.load()).strategy == "reload"

    assert ends.same()


async def test_a_wider_type_is_taken_and_another_is_refused_and_what_came_before_is_kept(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = -1 where id = 1")
    ends.source("alter table items alter column amount type bigint")
    ends.source("update items set amount = 5000000000 where id = 2")
    await ends.load()
    assert ends.same()
    ends.source("alter table items alter column amount type text using 'n' || amount")
    ends.source("update items set amount = 'none' where id = 3")
    before = ends.live()

    with pytest.raises(MedallionError, match="is now text"):
        await ends.load()

    assert ends.live() == before


async def test_frozen_columns_refuse_and_held_ones_quarantine(ends: LogEnds) -> None:
    await start(ends)
    ends.redeclare("items", on_drift="freeze")
    ends.source("alter table items add column note text")
    ends.source("update items set amount = 7 where id = 1")
    with pytest.raises(MedallionError):
        await ends.load()
    ends.redeclare("items", on_drift="quarantine", max_quarantined=0.9)
    ends.source("update items set note = 'x' where id = 2")

    result = await ends.load()

    assert result.counts.rows_quarantined == 1
    assert (7,) in ends.live("items", "amount")
    assert ends.raw("select count(*) from quarantine.rows where rule = 'drift:note'") == [(1,)]


async def test_columns_that_change_while_a_load_begins_lose_no_value(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(ends)
    honest = reading.pour

    async def meanwhile(*given: object) -> object:
        ends.source("alter table items add column note text")
        ends.source("update items set note = 'early' where id = 1")
        return await honest(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "pour", meanwhile)
        with pytest.raises(SourceUnavailable, match="columns of the table changed"):
            await ends.load()

    await ends.load()

    assert ends.same()


async def test_a_table_that_was_made_again_is_compared(ends: LogEnds) -> None:
    await start(ends)
    ends.source("drop table items")
    ends.source("create table items (id bigint primary key, name text, amount int)")
    ends.source("grant select on items to public")
    ends.source("insert into items values (1, 'item 1', 10), (2, 'other', 3)")
    await ends.set_up()

    await ends.load()

    assert ends.same()


async def test_a_new_label_of_an_enum_arrives(ends: LogEnds) -> None:
    ends.source("create type mood as enum ('sad', 'happy')")
    ends.create("items", "id bigint primary key, mood mood")
    ends.source("insert into items values (1, 'sad')")
    await ends.set_up()
    await ends.load()
    ends.source("alter type mood add value 'calm' before 'happy'")
    ends.source("insert into items values (2, 'calm')")

    await ends.load()

    assert ends.same()


async def test_partitions_arrive_as_one_table(ends: LogEnds) -> None:
    ends.source("create table items (id bigint primary key, name text) partition by range (id)")
    ends.source("create table items_low partition of items for values from (0) to (100)")
    ends.source("create table items_high partition of items for values from (100) to (200)")
    ends.source("grant select on items to public")
    ends.source("insert into items values (1, 'low'), (150, 'high')")
    ends.tables.append(Table("items", key="id", load=Merge()))
    await ends.set_up()
    await ends.load()
    ends.source("update items set id = 160 where id = 1")
    ends.source("insert into items_low values (2, 'leaf')")
    ends.source("truncate items")
    ends.source("insert into items values (3, 'after')")

    await ends.load()

    assert ends.same()


async def test_only_the_declared_columns_leave_the_source(ends: LogEnds) -> None:
    ends.create("items", "id bigint primary key, name text, person text", exclude=("person",))
    ends.source("insert into items values (1, 'one', 'Ada')")
    await ends.set_up()
    await ends.load()
    ends.source("insert into items values (2, 'two', 'Grace')")
    await ends.load()
    assert ends.raw("select id, name from raw_shop.items order by 1") == [(1, "one"), (2, "two")]
    name = (await ends.look()).names
    sent = ends.admin(
        f"select count(*) from pg_logical_slot_peek_binary_changes('{name.slot}', null, null, 'proto_version', '1', "
        f"'publication_names', '{name.publication}') where position('Grace'::bytea in data) > 0"
    )
    assert sent == [(0,)]


async def test_rows_that_a_statement_rewrites_without_changes_in_the_log_are_compared(ends: LogEnds) -> None:
    await start(ends)
    ends.source("alter table items alter column name type text using upper(name) || '!'")
    ends.source("update items set amount = -1 where id = 1")

    result = await ends.load()

    assert result.strategy == "reload"
    assert ends.same()
    ends.source("vacuum full items")
    ends.source("update items set amount = -1 where id = 2")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()
