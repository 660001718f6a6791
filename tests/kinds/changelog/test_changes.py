"""Changes of the log arrive in raw, each once."""

from typing import Any

import pytest

from flows.declare import Rule
from flows.kinds.changelog import inbox, reading
from flows.kinds.postgres.compare import compare
from flows.kinds.postgres.compare.narrow import narrow
from flows.values.errors import MedallionError
from tests.kinds.changelog.log_ends import LogEnds

ROWS = "insert into items select n, 'item ' || n, n * 10 from generate_series({}, {}) as n"
#: Stored out of line, and so not in the log of an update that leaves it alone.
LONG = "(select string_agg(md5(n::text || i::text), '') from generate_series(1, 200) as i)"


async def start(ends: LogEnds, rows: int = 20, more: str = "") -> None:
    """Items that are loaded, with their log."""
    ends.create("items", f"id bigint primary key, name text, amount int{more}")
    ends.source(
        f"insert into items (id, name, amount) select n, 'item ' || n, n * 10 from generate_series(1, {rows}) as n"
    )
    await ends.set_up()
    assert (await ends.load()).strategy == "initial"


async def test_inserts_updates_and_deletes_arrive(ends: LogEnds) -> None:
    await start(ends)
    ends.source(ROWS.format(21, 25))
    ends.source("update items set amount = -1 where id in (1, 2, 3)")
    ends.source("delete from items where id > 18 and id < 22")

    result = await ends.load()

    assert result.strategy == "merge"
    counts = result.counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deleted) == (4, 3, 2)
    assert (counts.reconciliation, counts.source_rows, counts.raw_rows) == ("match", 22, 22)
    assert ends.same()
    assert ends.raw("select count(*) from raw_shop.items where _deleted_at is not null and name is not null") == [(2,)]
    assert (await ends.load()).counts.changed == 0
    stored = ends.raw("select inserts, updates, deletes from ops.change_counts order by batch_id")
    assert stored == [(5, 3, 3), (0, 0, 0)]


async def test_a_key_that_moves_is_a_row_gone_and_a_row_come(ends: LogEnds) -> None:
    """Also through a key that another row had a moment ago, and back."""
    await start(ends)
    ends.source("update items set id = 100 where id = 1")
    ends.source("begin; update items set id = 101 where id = 2; update items set id = 2 where id = 3; commit")
    ends.source("update items set id = 200 where id = 4")
    ends.source("update items set id = 4 where id = 200")

    result = await ends.load()

    assert ends.same()
    assert result.counts.reconciliation == "match"
    assert ends.raw("select id from raw_shop.items where _deleted_at is not null order by 1") == [(1,), (3,)]


async def test_a_key_that_only_gets_another_text_stays_one_row(ends: LogEnds) -> None:
    ends.create("items", "id numeric primary key, name text")
    ends.source("insert into items values (1.0, 'one'), (2, 'two')")
    await ends.set_up()
    await ends.load()
    ends.source("update items set id = 1.00 where id = 1")

    result = await ends.load()

    assert ends.same()
    assert result.counts.reconciliation == "match"
    assert ends.raw("select count(*) from raw_shop.items") == [(2,)]


@pytest.mark.parametrize("identity", ["default", "full"])
async def test_values_that_are_stored_out_of_line_stay_when_they_do_not_change(ends: LogEnds, identity: str) -> None:
    """In raw, after an earlier change of the same read, and under a new key."""
    ends.create("items", "id bigint primary key, amount int, note text, other text")
    ends.source(f"alter table items replica identity {identity}")
    ends.source(f"insert into items select n, 0, {LONG}, {LONG} from generate_series(1, 6) as n")
    await ends.set_up()
    await ends.load()
    ends.source("update items set amount = 1 where id = 1")
    ends.source(f"update items as t set note = {LONG.replace('n::', '(t.id + 50)::')} where id = 2")
    ends.source("update items set amount = 2 where id = 2")
    ends.source("update items set id = 30, amount = 3 where id = 3")
    ends.source("update items set id = 31 where id = 30")
    ends.source("update items set amount = 4 where id = 31")
    ends.source(f"insert into items select n, 7, {LONG}, null from generate_series(7, 7) as n")
    ends.source("update items set amount = 8 where id = 7")
    ends.source("delete from items where id = 4")
    ends.source(f"insert into items select n, 9, {LONG}, {LONG} from generate_series(4, 4) as n")
    ends.source("update items set id = id + 100, amount = 10 where id = 4")

    await ends.load()

    assert ends.same()
    assert ends.raw("select count(*) from raw_shop.items where note is null and _deleted_at is null") == [(0,)]


async def test_such_a_value_of_a_quarantined_row_is_read_from_the_source(ends: LogEnds) -> None:
    rule = Rule("amount_not_negative", "amount >= 0")
    ends.create("items", "id bigint primary key, amount int, note text", rules=(rule,), max_quarantined=0.9)
    ends.source(f"insert into items select n, case n when 2 then -1 else n end, {LONG} from generate_series(1, 9) as n")
    await ends.set_up()
    assert (await ends.load()).counts.rows_quarantined == 1
    ends.source("update items set amount = 2 where id = 2")

    result = await ends.load()

    assert ends.same()
    assert result.counts.reconciliation == "match"


async def test_a_truncate_arrives_with_what_follows_it(ends: LogEnds) -> None:
    await start(ends)
    ends.source("update items set amount = 5 where id = 1")
    ends.source("truncate items")
    ends.source(ROWS.format(5, 8))
    ends.source("update items set name = 'again' where id = 5")

    result = await ends.load()

    assert ends.same()
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (16, "match")
    ends.source("truncate items")
    assert (await ends.load()).counts.rows_deleted == 4
    assert ends.live() == []


async def test_truncating_cascades_to_all_tables_of_the_source(ends: LogEnds) -> None:
    await start(ends)
    ends.create("parts", "id bigint primary key, item bigint references items")
    ends.source("insert into parts select n, n from generate_series(1, 5) as n")
    await ends.set_up()
    await ends.load("parts")
    ends.source("truncate items cascade")

    await ends.load("items")
    await ends.load("parts")

    assert (ends.live("items"), ends.live("parts")) == ([], [])


async def test_what_was_rolled_back_never_arrives_and_interleaved_transactions_end_as_at_the_source(
    ends: LogEnds,
) -> None:
    await start(ends)
    ends.source("begin; update items set amount = 1; rollback")
    ends.source(
        "begin; insert into items values (50, 'kept', 1); savepoint s; delete from items; rollback to s; commit"
    )
    for number in range(5):
        ends.source(
            f"begin; delete from items where id = 7; insert into items values (7, 'v{number}', {number}); commit"
        )

    await ends.load()

    assert ends.same()
    assert (await ends.load()).counts.changed == 0


async def test_every_type_arrives_as_a_batch_would_bring_it(ends: LogEnds) -> None:
    ends.source("create type mood as enum ('sad', 'it''s ok', 'happy')")
    ends.source("create domain positive as int check (value > 0)")
    ends.source("create type pair as (a int, b text)")
    columns = (
        "id uuid primary key, f float8, r real, n numeric(12, 3), m money, b bytea, t timestamptz, ts timestamp, "
        "d date, tm time, i interval, j json, jb jsonb, a int[], ta text[], e mood, p positive, c pair, bits bit(5), "
        'net inet, rg int4range, "Odd, ""name""" text, big numeric, flag boolean, ch char(5), '
        "g int generated always as (1 + 1) stored"
    )
    ends.create("items", columns)
    values = (
        "'00000000-0000-0000-0000-00000000000{}', 0.1::float8 + 0.2, 1e-7, 12.340, '$1,234.56', '\\x00ff', "
        "'infinity', '0044-03-15 BC', '294276-01-01'::timestamp::date, '24:00', '-1 mons +2 days', "
        "'{{\"a\" : 1, \"a\":2}}', '{{\"b\": 1.0}}', '{{1,null}}', array['', 'NULL', null, 'a\"b'], 'it''s ok', 5, "
        "row(1, 'x,y'), b'10101', '10.0.0.1/8', '[1,5)', e'tab\\tnew\\nline\\\\', 'NaN', true, 'ab'"
    )
    names = 'id, f, r, n, m, b, t, ts, d, tm, i, j, jb, a, ta, e, p, c, bits, net, rg, "Odd, ""name""", big, flag, ch'
    ends.source(f"insert into items ({names}) values ({values.format(1)})")
    await ends.set_up()
    await ends.load()
    ends.source(f"insert into items ({names}) values ({values.format(2)})")

    await ends.load()

    assert ends.same()
    kinds = ends.raw("select count(distinct r.j::text || r.c::text || r.ts::text) from raw_shop.items as r")
    assert kinds == [(1,)]


async def test_a_load_that_is_refused_keeps_its_position_and_holds_back_no_other_table(ends: LogEnds) -> None:
    await start(ends)
    ends.create("other", "id bigint primary key, name text")
    ends.source("insert into other values (1, 'one')")
    await ends.set_up()
    await ends.load("other")
    ends.redeclare("items", rules=(Rule("positive", "amount > 0"),))
    ends.source("update items set amount = -1")
    ends.source("update other set name = 'two'")

    with pytest.raises(MedallionError, match="break a rule"):
        await ends.load("items")
    await ends.load("other")

    assert ends.same("other")
    before = (await ends.look()).confirmed
    ends.redeclare("items", rules=())
    await ends.load("items")
    assert ends.same("items")
    after = (await ends.look()).confirmed
    assert before is not None
    assert after is not None
    assert after > before, "the slot waits for the table that failed, and for no longer"


async def test_the_slot_advances_although_nothing_of_its_tables_changes(ends: LogEnds) -> None:
    """A quiet table on a busy server must not keep the server's WAL."""
    await start(ends)
    ends.source("create table busy (id int)")
    await ends.load()
    before = (await ends.look()).confirmed
    ends.source("insert into busy select generate_series(1, 5000)")

    await ends.load()

    after = (await ends.look()).confirmed
    assert before is not None
    assert after is not None
    assert after > before


async def test_one_read_of_the_log_serves_all_tables_of_a_run(ends: LogEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    await start(ends)
    ends.create("other", "id bigint primary key, name text")
    await ends.set_up()
    await ends.load("other")
    ends.source("insert into other values (1, 'one')")
    ends.source("delete from items where id = 1")
    reads, honest = list[int](), reading.pour

    async def counted(*given: object) -> object:
        reads.append(1)
        return await honest(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "pour", counted)
    ends.run_id = ends.raw("insert into ops.runs (pipeline) values ('ingest') returning run_id")[0][0]

    await ends.load("items")
    await ends.load("other")

    assert len(reads) == 1
    assert ends.same("items")
    assert ends.same("other")
    assert ends.raw("select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r'") == []
    ends.source("delete from items where id = 2")
    await ends.load("items")
    assert ends.same("items"), "a second load of a table in the same run looks again"


async def test_a_load_during_a_comparison_leaves_its_keys_pending(
    ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw was read before it, and the log has let go of the changes when differences are looked up there."""
    await start(ends)
    ends.source("update items set name = 'changed' where id = 1")

    async def after_a_load(*given: Any) -> Any:
        await ends.load()
        return await narrow(*given)

    monkeypatch.setattr(compare, "narrow", after_a_load)
    found = await ends.compare()
    assert (found.result, found.pending) == ("match", 1)
    assert ends.same()


async def test_commits_that_do_not_wait_for_the_disk_arrive(ends: LogEnds) -> None:
    """The end of the log is then not yet on disk when a load asks for it."""
    ends.admin(f"alter database {ends.shop.name} set synchronous_commit = off")
    await start(ends)
    ends.source("set synchronous_commit = off; update items set amount = -1 where id = 1; reset synchronous_commit")

    await ends.load()

    assert ends.same()
