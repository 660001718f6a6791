"""Capture that was interrupted, tampered with or let go: noticed before anything of it is trusted."""

import psycopg
import pytest

from flows.declare import Triggers
from flows.values.errors import ConfigurationError, SourceUnavailable
from tests.kinds.captured.captured_ends import CapturedEnds

CHANGES = "medallion_captured.shop__items"


async def start(ends: CapturedEnds, rows: int = 20) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source(f"insert into items select n, 'x' from generate_series(1, {rows}) as n")
    await ends.load()


async def test_a_trigger_that_is_disabled_or_gone_refuses_the_load(ends: CapturedEnds) -> None:
    await start(ends)
    ends.source("alter table items disable trigger shop__items__u")
    with pytest.raises(ConfigurationError, match="the trigger of update is disabled"):
        await ends.load()
    ends.source("update items set name = 'unseen' where id = 1")
    ends.source("drop trigger shop__items__u on items")
    with pytest.raises(ConfigurationError, match="a trigger was dropped"):
        await ends.load()

    await ends.set_up()
    result = await ends.load()

    assert result.strategy == "reload"
    assert "a trigger was created again, or disabled for a while" in str(result.warning)
    assert ends.same()
    assert (await ends.load()).strategy == "merge"


async def test_triggers_that_were_disabled_for_a_while_have_the_table_read_in_full(ends: CapturedEnds) -> None:
    """As a restore with --disable-triggers does it, in one transaction."""
    await start(ends)
    ends.admin(
        "begin; alter table items disable trigger all; update items set name = 'unseen' where id = 1; "
        "alter table items enable trigger all; commit"
    )
    with pytest.raises(ConfigurationError, match="disabled"):  # enabled, and no longer always
        await ends.load()
    await ends.set_up()
    assert (await ends.load()).strategy == "reload"
    assert ends.same()


@pytest.mark.parametrize("removal", ["delete from", "truncate"])
async def test_rows_that_somebody_else_removed_are_noticed(ends: CapturedEnds, removal: str) -> None:
    await start(ends)
    ends.source("update items set name = 'lost' where id = 1")
    ends.admin(f"{removal} {CHANGES}")

    result = await ends.load()

    assert (result.strategy, ends.same()) == ("reload", True)
    assert "removed by somebody else" in str(result.warning)
    assert (await ends.load()).strategy == "merge"


async def test_a_removal_that_fires_no_guard_is_what_the_counter_is_for(
    ends: CapturedEnds,
) -> None:
    """The control: without the guard, the change is lost, and the load says match."""
    await start(ends)
    ends.source("update items set name = 'lost' where id = 1")
    ends.admin(f"begin; set local medallion.acknowledges = 'on'; delete from {CHANGES}; commit")
    assert (await ends.load()).counts.reconciliation == "match"
    assert not ends.same()
    assert (await ends.compare()).different == 1, "a comparison of contents finds it"


async def test_a_changed_function_is_refused(ends: CapturedEnds) -> None:
    await start(ends)
    ends.admin(
        "create or replace function medallion_captured.shop__items__f() returns trigger language plpgsql as "
        "$$ begin return null; end $$"
    )
    with pytest.raises(ConfigurationError, match="function of the triggers was changed"):
        await ends.load()


async def test_beyond_the_limit_recording_stops_and_the_next_load_reads_in_full(ends: CapturedEnds) -> None:
    """While nothing is loaded, the change table stays below its limit, whatever is written."""
    ends.triggers = Triggers(max_waiting=100_000)
    await start(ends)
    for number in range(8):
        ends.source(f"insert into items select n, 'y' from generate_series({number}000, {number}999) as n where n > 20")
    ((size, marks),) = ends.admin(
        f"select pg_relation_size('{CHANGES}'), (select count(*) from {CHANGES} where capture_op = 'L')"
    )
    assert (size < 300_000, marks) == (True, 1)
    ends.source("update items set name = 'not recorded' where id = 5")

    result = await ends.load()

    assert result.strategy == "reload"
    assert "larger than max_waiting" in str(result.warning)
    assert ends.same()
    ends.source("update items set name = 'recorded' where id = 5")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_a_transaction_that_found_recording_stopped_is_waited_for(
    ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changed a row and recorded nothing: read before it commits, the row would be wrong for ever."""
    ends.triggers = Triggers(max_waiting=20_000)
    await start(ends)
    ends.source("insert into items select n, 'y' from generate_series(1000, 2999) as n")
    ends.source("insert into items values (5000, 'stops')")
    monkeypatch.setattr("flows.kinds.captured.load._WAIT_SECONDS", 0.5)
    with psycopg.connect(ends.shop.url("app"), autocommit=True) as writer:
        writer.execute("begin")
        writer.execute("update items set name = 'unseen' where id = 1")
        with pytest.raises(SourceUnavailable, match="stays open") as refused:
            await ends.load()
        assert refused.value.retryable
        writer.execute("commit")
    assert (await ends.load()).strategy == "reload"
    assert ends.same()


async def test_a_source_that_was_set_up_again_is_read_in_full(ends: CapturedEnds) -> None:
    await start(ends)
    await ends.drop()
    ends.source("update items set name = 'unseen' where id = 1")
    await ends.set_up()
    assert await ends.reason() == ("reload", "the change table was created again since the last load")
    await ends.load()
    assert ends.same()


async def test_a_table_that_was_created_again_is_read_in_full(ends: CapturedEnds) -> None:
    await start(ends)
    ends.source("drop table items")
    ends.source("create table items (id bigint primary key, name text)")
    ends.source("grant select on items to public")
    ends.source("insert into items values (1, 'other')")
    with pytest.raises(ConfigurationError):
        await ends.load()
    await ends.set_up()
    ends.redeclare(max_deleted=1.0)
    await ends.load()
    assert ends.same()


async def test_nothing_is_left_behind_when_capture_is_dropped(ends: CapturedEnds) -> None:
    await start(ends)
    assert len(ends.admin("select tgname from pg_trigger where tgname like 'shop@_@_%' escape '@'")) == 5
    assert all(step.done for step in await ends.drop())
    assert ends.admin("select 1 from pg_namespace where nspname = 'medallion_captured'") == []
    assert ends.admin("select tgname from pg_trigger where tgname like 'shop@_@_%' escape '@'") == []
    assert await ends.drop() == []
    ends.source("update items set name = 'goes on'")
