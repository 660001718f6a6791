"""What every kind of source promises. Each is written once, for all of them.

A promise is a coroutine that takes a `Given` and fails by an assertion or an error. test_promises.py holds each kind to
each of them; test_mutants.py shows that each would notice a kind that breaks it.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import pytest

from blocks.documents import values_of
from blocks.types import SourceApi, SourceDatabase
from deployments.documents import documents
from flows.access.addresses import connect
from flows.access.mask_key import mask_key
from flows.declare import Budget, Freshness, Hashed
from flows.failures.failpoints import FAILPOINTS
from flows.kinds.registry import kind_of
from flows.operations.alerts import Condition
from flows.operations.checks.freshness import late
from flows.operations.freshness import Clocks
from flows.render.raw_columns import raw_columns
from flows.values.errors import MedallionError, OverBudget
from flows.verbs.fix import fix
from flows.verbs.plan import PlanLine
from flows.verbs.quarantine import discard_rows
from flows.verbs.reload import request_reload
from flows.verbs.replay import plan_replay, replay
from tests.kinds.conformance.end import SECRET, TABLE
from tests.kinds.conformance.given import Given
from tests.kinds.everywhere import tables_with
from tests.kinds.loading import setting

# Passed by loads of some kinds only.
_OF_SOME = {"in_chunk_before_commit", "after_slice_commit", "after_chunk_commit"}

Promise = Callable[[Given], Awaitable[None]]
PROMISES: list[Promise] = []


def promise(written: Promise) -> Promise:
    """One of those that every kind is held to."""
    PROMISES.append(written)
    return written


def twenty() -> list[tuple[int, str, int]]:
    return [(number, f"item {number}", number * 10) for number in range(1, 21)]


@promise
async def a_first_load_equals_the_source(given: Given) -> None:
    given.end.write(*twenty())

    result = await given.load()

    assert given.live() == given.end.held()
    counts = result.counts
    assert (counts.rows_read, counts.rows_inserted, counts.rows_deduplicated) == (20, 20, 0)
    assert result.counts.reconciliation == ("match" if given.end.counts else "not_compared")
    assert given.landed() == []


@promise
async def running_again_writes_nothing(given: Given) -> None:
    given.end.write(*twenty())
    await given.load()
    before = given.image()

    again = await given.load()

    assert again.counts.changed == 0
    assert given.image() == before
    assert given.landed() == []


@promise
async def what_changed_arrives_once(given: Given) -> None:
    given.end.write(*twenty())
    await given.load()
    given.end.write((1, "one", 1), (2, "two", 2), (3, "three", 3), (21, "new", 0), (22, "newer", 0))
    given.end.delete(20)

    result = await given.load()

    counts = result.counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deduplicated) == (2, 3, 0)
    expected = given.end.held() if given.end.deletes else given.end.held() | {20: ("item 20", 200)}
    assert given.live() == expected


@promise
async def a_bad_row_is_kept_in_full_until_it_is_fixed(given: Given) -> None:
    given.end.write(*twenty(), (21, "bad", -5))

    result = await given.load()

    assert result.counts.rows_quarantined == 1
    assert 21 not in given.live()
    assert len(given.live()) == 20
    ((document, rule),) = given.ask("select row_data::text, rule from quarantine.rows where resolved_at is null")
    assert "bad" in document
    assert "-5" in document
    assert rule == "amount_not_negative"
    given.end.write((21, "good", 5))
    await given.load()
    assert given.live() == given.end.held()
    assert given.ask("select from quarantine.rows where resolved_at is null") == []


@promise
async def a_row_fixed_by_hand_and_replayed_is_in_raw_exactly_once(given: Given) -> None:
    """Twice is once; what still breaks a rule stays out; and no load takes the fix back while the source is wrong."""
    given.end.write(*twenty(), (21, "bad", -5), (22, "worse", -6))
    await given.load()
    await asyncio.sleep(given.end.settles)
    await given.load()
    numbers = given.ask("select quarantine_id from quarantine.rows order by row_data::text like '%worse%'")
    bad, worse = (int(row[0]) for row in numbers)
    name = f"{given.source.name}.{TABLE}"
    amount = "payload.amount" if "payload" in given.end.item else "amount"

    await fix(bad, {amount: "5"}, "ada", "typed with a minus")
    planned = await plan_replay([name])
    assert sorted((one.verdict or "", one.rows) for one in planned[0].outcomes) == [("", 1), ("amount_not_negative", 1)]
    assert 21 not in given.live()
    done = await replay([name], "ada")

    assert done[0].result is not None
    counts = done[0].result.counts
    assert (counts.rows_read, counts.rows_inserted, counts.rows_quarantined) == (2, 1, 1)
    expected = {number: item for number, item in given.end.held().items() if number != 22} | {21: ("bad", 5)}
    assert given.live() == expected
    before = given.image()
    again = await replay([str(bad)], "ada")
    assert again[0].result is None
    assert given.image() == before, "a replay twice writes as much as two"
    for _ in range(2):
        loaded = await given.load()
        assert loaded.counts.reconciliation == ("match" if given.end.counts else "not_compared")
        assert given.live() == expected
    assert (await given.compare()).agrees
    stored = given.ask("select quarantine_id, resolution from quarantine.rows order by quarantine_id")
    assert sorted(stored) == sorted([(bad, "fixed by hand"), (worse, None)])
    assert given.landed() == []

    await request_reload([name], "ada", recreate=True)
    await given.load()
    assert given.live() == expected, "a new raw table has the row as it was fixed"
    given.end.write((21, "good", 6), (22, "well", 7))
    await given.load()
    assert given.live() == given.end.held(), "a good version from the source wins"


@promise
async def a_discarded_row_stays_discarded_until_it_changes(given: Given) -> None:
    given.end.write(*twenty(), (21, "bad", -5))
    await given.load()
    ((number,),) = given.ask("select quarantine_id from quarantine.rows")
    await discard_rows([number], "ada", "a test order")

    for _ in range(2):
        counts = (await given.load()).counts
        assert counts.reconciliation == ("match" if given.end.counts else "not_compared")
        assert given.ask("select resolution from quarantine.rows") == [("discarded",)]
        if given.end.counts:
            assert (counts.source_rows, counts.raw_rows, counts.quarantine_rows) == (21, 20, 1)
    given.end.write((21, "changed", -6))
    await given.load()
    assert given.ask("select resolution from quarantine.rows order by 1 nulls last") == [("discarded",), (None,)]


@promise
async def a_plan_touches_nothing_and_agrees_with_the_next_load(given: Given) -> None:
    given.end.write(*twenty())
    before = given.rest(), given.end.held()
    planned = await given.plan()
    assert (given.rest(), given.end.held()) == before
    assert planned.error is None
    assert planned.plan is not None
    assert planned.plan.strategy == "initial"

    await _agree(given, planned, changed=20)
    await _agree(given, await given.plan(), changed=0)
    if given.end.deletes:
        given.end.delete(7)
        before = given.rest(), given.end.held()
        planned = await given.plan()
        assert (given.rest(), given.end.held()) == before
        assert planned.state != "up to date", "a plan says that nothing is pending where the next load deletes"
        await _agree(given, planned, changed=1)
        # One gone and one come: the numbers at both ends are the same.
        given.end.delete(8)
        given.end.write((30, "thirty", 3))
        await _agree(given, await given.plan(), changed=2)


@promise
async def a_plan_names_deletes(given: Given) -> None:
    """Also where no row has changed: by what else should a person know that the next load marks some as deleted?"""
    if given.end.by_id is None:
        return
    given = replace(given, source=given.end.by_id)
    given.end.write(*twenty())
    await given.load()
    assert (await given.plan()).state == "up to date"
    given.end.delete(7)

    planned = await given.plan()

    assert planned.state == "pending: deletes"
    assert (await given.load()).counts.rows_deleted == 1
    assert (await given.plan()).state == "up to date"


async def _agree(given: Given, planned: PlanLine, *, changed: int) -> None:
    result = await given.load()
    assert planned.plan is not None
    assert planned.plan.strategy == result.strategy
    assert planned.rows in (None, result.counts.rows_read)
    assert result.counts.changed == changed
    if planned.state == "up to date":
        assert changed == 0


@promise
async def killed_anywhere_it_heals(given: Given) -> None:
    given.end.write(*twenty())
    await given.load()
    for number, failpoint in enumerate(name for name in FAILPOINTS if name not in _OF_SOME):
        given.end.write((100 + number, failpoint, number), (1, failpoint, 1))
        before = given.live()

        assert await given.load_killed(failpoint) == -signal.SIGKILL, f"no load passes {failpoint}"

        after = given.end.held() if failpoint == "after_commit" else before
        assert given.live() == after, f"killed at {failpoint}, a load left a part of itself"
        again = await given.load()
        assert given.live() == given.end.held(), f"killed at {failpoint}, a load lost or doubled items"
        assert again.counts.rows_deduplicated == 0
        assert given.landed() == []


@promise
async def a_first_load_killed_anywhere_heals(given: Given) -> None:
    given.end.write(*twenty())
    for failpoint in ("after_copy", "in_publish_before_commit"):
        assert await given.load_killed(failpoint) == -signal.SIGKILL
        assert given.ask(f"select to_regclass('{given.raw}')") == [(None,)]
    await given.load()
    assert given.live() == given.end.held()


@promise
async def a_list_is_complete_or_the_load_says_so(given: Given) -> None:
    """A source that stops in the middle is not a smaller one: nothing is deleted, and the next load reads the rest."""
    for way in given.end.early_ends:
        given.end.write(*twenty())
        await given.load()
        with given.end.stopping(way):
            try:
                result = await given.load()
            except MedallionError:
                said = True
            else:
                said = bool(result.warning) or result.counts.reconciliation != "match"
        assert said, f"{way}: a part of the list counts as all of it"
        assert given.live() == given.end.held(), f"{way}: what did not come counts as deleted"
        given.end.write((20, f"new after {way}", 0))

        result = await given.load()

        assert (given.live(), result.warning) == (given.end.held(), None), way


@promise
async def a_key_that_is_not_unique_is_reported(given: Given) -> None:
    """Whichever of the two is right: none is chosen silently, and no result calls it a match, also not the next."""
    if not given.end.duplicates:
        return
    given.end.write(*twenty())
    given.end.double(5, "another")

    for _ in range(2):
        counts = (await given.load()).counts

        assert counts.reconciliation == "duplicate"
        assert given.live() == {number: item for number, item in given.end.held().items() if number != 5}
        found = given.ask("select rule, row_data::text from quarantine.rows where resolved_at is null order by 2")
        assert [rule for rule, _ in found] == ["key_not_unique"] * 2
        assert sum("another" in document for _, document in found) == 1
        if given.end.counts:
            assert (counts.source_rows, counts.raw_rows, counts.quarantine_rows) == (21, 19, 2)
    compared = await given.compare()
    assert not compared.agrees
    assert compared.duplicate == 1


@promise
async def equal_rows_of_one_key_are_no_match_either(given: Given) -> None:
    """ "Source 21, raw 20, match": a count that does not add up, whatever became of the copy."""
    if not given.end.duplicates:
        return
    given.end.write(*twenty())
    given.end.double(5)

    for _ in range(2):
        counts = (await given.load()).counts

        assert counts.rows_deduplicated + (counts.quarantine_rows or 0) > 0
        assert counts.reconciliation == "duplicate" if given.end.counts else counts.reconciliation != "match"
    assert (await given.compare()).result != "match"


@promise
async def a_key_that_is_unique_again_leaves_quarantine(given: Given) -> None:
    if not given.end.duplicates:
        return
    given.end.write(*twenty())
    given.end.double(5, "another")
    await given.load()

    given.end.write((5, "the only one", 5))
    for _ in range(2):
        await given.load()

    assert given.live() == given.end.held()
    assert given.ask("select from quarantine.rows where resolved_at is null") == []
    assert (await given.load()).counts.reconciliation == ("match" if given.end.counts else "not_compared")


@promise
async def no_secret_is_told(given: Given) -> None:
    given.end.write(*twenty())
    with _logged() as log:
        await given.load()
        with given.end.broken(), pytest.raises(MedallionError) as refused:
            await given.load()
        planned = await given.plan()
    written = given.ask(
        "select e::text from ops.errors as e union all select l::text from ops.loads as l "
        "union all select r::text from ops.runs as r"
    )
    told = [str(refused.value), repr(refused.value), repr(refused.value.__dict__), log.getvalue(), repr(planned)]
    told += [repr(kind_of(given.source).address(given.source)), json.dumps(written)]
    assert [text for text in told if SECRET in text] == []
    assert refused.value.fix


@contextmanager
def _logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@promise
async def it_is_acknowledged_after_the_commit_only(given: Given) -> None:
    """What is told to the source is in raw: a slot that advances before the commit would lose what it passed."""
    given.end.write(*twenty())
    kind, seen = kind_of(given.source), list[int]()
    with _watching(kind, lambda: seen.append(_published(given))):
        await given.load()
        given.end.write((1, "one", 1))
        await given.load()
    assert seen == [1, 2]


def _published(given: Given) -> int:
    ((number,),) = given.ask("select count(*) from ops.loads where status = 'published'")
    return int(number)


@contextmanager
def _watching(kind: Any, look: Callable[[], None]) -> Iterator[None]:
    before = kind.acknowledge

    async def acknowledge(*given: Any) -> None:
        look()
        await before(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "acknowledge", acknowledge)
        yield


@promise
async def declared_columns_are_those_of_raw(given: Given) -> None:
    given.end.write(*twenty())
    await given.load()
    found = given.ask(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        f"where attrelid = '{given.raw}'::regclass and attnum > 0 and not attisdropped"
    )
    in_raw = {str(name): str(kind) for name, kind in found}
    source = given.source
    for column in raw_columns(source, source.table(TABLE)):
        assert column.name in in_raw
        assert column.data_type in (None, in_raw[column.name]), column.name
        if column.required:
            assert given.ask(f"select from {given.raw} where {column.name} is null") == [], column.name


@promise
async def a_comparison_finds_what_differs(given: Given) -> None:
    given.end.write(*twenty())
    await given.load()
    await asyncio.sleep(given.end.settles)
    await given.load()  # what was written a moment ago is read once more, and would be pending
    agreed = await given.compare()
    if not given.end.counts:
        assert (agreed.result, agreed.agrees) == ("not_compared", True)
        return
    assert (agreed.result, agreed.differences) == ("match", 0)

    given.ask(f"delete from {given.raw} where {_number(given)} in (1, 2)")
    given.ask(given.end.swapped.format(given.raw))
    found = await given.compare()

    assert found.result == "different"
    # By counts, rows that the next load reads anyway may be among those that are missing.
    assert found.missing + found.pending == 2 if found.method == "count" else found.missing == 2
    if found.method == "content":
        assert found.different == 2
        repaired = await given.compare(repair=True)
        assert (repaired.result, given.live()) == ("match", given.end.held())


def _number(given: Given) -> str:
    return given.end.item.split(",")[0]


@promise
async def lineage_names_the_table_by_where_it_is(given: Given) -> None:
    """As other tools name it: an event of ours that says where it is not joins nothing."""
    source = given.source
    found = kind_of(source).dataset(source, source.table(TABLE))
    assert (found.namespace, found.name) == given.end.dataset


@promise
async def its_block_holds_what_its_address_needs(given: Given) -> None:
    """A URL alone is enough: a key may follow."""
    (variable,) = [name for name in given.end.variables if name.endswith("_URL")]
    url = given.end.variables[variable]
    (kept,) = [block for name, block in documents({variable: url}, {}) if name == f"source-{given.source.connection}"]
    assert isinstance(kept, SourceApi if kind_of(given.source).has_key else SourceDatabase)
    assert url in values_of(kept).values()


@promise
async def a_reload_reads_everything_once(given: Given) -> None:
    """Whatever raw had come to hold, also below the cursor."""
    given.end.write(*twenty())
    await given.load()
    await asyncio.sleep(given.end.settles)
    await given.load()
    given.ask(given.end.swapped.format(given.raw))
    assert given.live() != given.end.held()

    await request_reload([f"{given.source.name}.{TABLE}"], "somebody")
    result = await given.load()

    assert (result.strategy, result.counts.rows_read) in (("reload", 20), ("replace", 20))
    assert given.live() == given.end.held()
    planned = (await given.plan()).plan
    assert planned is not None
    assert planned.strategy != "reload", "a request is answered once"


@promise
async def hidden_rows_are_reported_and_never_deleted(given: Given) -> None:
    """A policy that begins to filter what the role sees is no delete of what it hides."""
    given.end.write(*twenty())
    await given.load()
    before = given.image()
    if not given.end.hide(5):
        return

    with pytest.raises(MedallionError, match="row-level security") as refused:
        await given.load()

    assert given.image() == before
    assert "bypassrls" in refused.value.fix
    assert not refused.value.retryable
    planned = await given.plan()
    assert planned.error is not None
    with pytest.raises(MedallionError, match="row-level security"):
        await given.compare()


@promise
async def a_key_that_changed_is_refused_with_the_way_out(given: Given) -> None:
    """Rows would be matched by columns of which raw knows nothing."""
    given.end.write(*twenty())
    await given.load()
    before = given.image()
    given.redeclare(key="amount")

    with pytest.raises(MedallionError, match="the declared key is amount") as refused:
        await given.load()

    assert given.image() == before
    assert "--recreate" in refused.value.fix or "flows/sources" in refused.value.fix
    assert not refused.value.retryable


@promise
async def another_cursor_is_never_trusted(given: Given) -> None:
    """What one column's value says of later rows, another column's does not."""
    if given.end.by_id is None:
        return
    given.end.write(*twenty())
    await given.load()
    given.end.write((30, "newest", 1))
    given.redeclare(cursor=given.end.by_id.table(TABLE).cursor)
    await given.load()
    given.end.write((1, "one", 1), (2, "two", 2))
    given.redeclare(cursor=given.first.table(TABLE).cursor)

    result = await given.load()

    assert result.strategy == "reload"
    assert "the cursor was" in str(result.warning)
    assert given.live() == given.end.held()


@promise
async def what_is_behind_a_mask_is_nowhere_in_the_warehouse(given: Given) -> None:
    """Rows that are refused, quarantined or compared are kept and told in full: in full, as they are loaded."""
    if not (_can_declare(given, "masked") and given.end.masks):
        return
    given.redeclare(masked={"name": Hashed()})
    given.end.write(*((number, f"zqperson{number}", amount) for number, _, amount in twenty()), (21, "zqperson21", -5))
    with _logged() as log, setting(mask_key="a key for hashes in tests, of 40 characters"):
        result = await given.load()
        if given.end.duplicates:
            given.end.double(5, "zqpersonagain")
        given.end.write((1, "zqpersonnew", 1), (22, "zqperson22", -5))
        results = [result, await given.load(), await given.compare()]
        with given.end.broken(), pytest.raises(MedallionError) as refused:
            await given.load()
        hashed = mask_key().hash("zqpersonnew")

    assert result.counts.rows_inserted == 20
    assert given.live()[1] == (hashed, 1)
    assert tables_with(given.warehouse, "zqperson") == []
    told = [log.getvalue(), repr(results), str(refused.value), repr(refused.value.__dict__)]
    assert [text for text in told if "zqperson" in text] == []


@promise
async def a_limited_load_is_never_mistaken_for_a_full_one(given: Given) -> None:
    """Its cursor, deletes or result would hide the other rows for ever."""
    given.end.write(*twenty())
    with setting(row_limit=5):
        if not kind_of(given.source).heeds_limit:
            with pytest.raises(MedallionError, match="a row limit of 5 is set"):
                await given.load()
            return
        result = await given.load()
    assert (result.counts.rows_read, result.counts.reconciliation, result.strategy) == (5, "limited", "limited")
    assert "limited to 5 rows" in str(result.warning)
    assert (await given.compare()).result == "not_compared"

    await given.load()
    assert given.live() == given.end.held()

    given.end.delete(7)
    with setting(row_limit=5):
        result = await given.load()
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (0, "limited")
    assert len(given.live()) == 20
    await given.load()
    assert given.live() == given.end.held()

    with setting(row_limit=5, environment="production"), pytest.raises(MedallionError, match="is production"):
        await given.load()


@promise
async def an_empty_load_is_fresh_and_the_newest_event_is_that_of_raw(given: Given) -> None:
    """What nothing has changed in is read all the same; whether the source has anything new is another clock."""
    given.end.write(*twenty())
    table: Any = given.source.table(TABLE)
    event = kind_of(given.source).event_time(table)
    given.redeclare(freshness=Freshness(loaded_within="2 h", event_within="1 h" if event is not None else None))
    await given.load()
    given.ask("update ops.loads set finished_at = finished_at - interval '3 hours'")
    assert "late" in {one.name for one in await _late(given)}

    result = await given.load()

    assert (result.counts.rows_inserted, result.counts.rows_updated) == (0, 0)
    assert [one for one in await _late(given) if "not loaded" in one.what or one.name != "late"] == []
    if event is not None:
        async with connect(given.address, side="warehouse") as warehouse:
            now = await warehouse.fetchval("select clock_timestamp()")
            (reading,) = [one for one in await Clocks([given.source]).read(warehouse, now) if one.clock == "event"]
        (newest,) = given.ask(f"select max({event.column}) from {given.raw}")[0]
        assert reading.at is not None
        assert newest is not None


@promise
async def a_load_leaves_a_profile_of_the_rows_that_it_published(given: Given) -> None:
    given.end.write(*((number, f"item {number}", number * 10) for number in range(1, 31)), (31, "bad", -5))

    result = await given.load()

    profiles = given.ask(
        "select kind, rows, sampled, null_share, distinct_values, quantiles[1], quantiles[21] from ops.profiles "
        f"where batch_id = {result.batch_id} and column_name in ('amount', 'payload.amount')"
    )
    assert profiles == [("number", 30, 30, 0, 30, 10, 300)]


async def _late(given: Given) -> list[Condition]:
    async with connect(given.address, side="warehouse") as warehouse:
        return await late(warehouse, clocks=Clocks([given.source]))


@promise
async def a_load_stops_at_its_budget_and_the_next_goes_on(given: Given) -> None:
    """Or it is refused before it begins, or ends and says that it was over. What was read is kept, and the table never
    passes for complete meanwhile."""
    given.end.write(*twenty())
    given.redeclare(budget=Budget(rows=8))
    if kind_of(given.source).at_budget == "checks":
        result = await given.load()
        assert (result.stopped, given.live()) == (None, given.end.held())
        assert "20 instead of 8 rows" in (result.warning or "")
        return
    if kind_of(given.source).at_budget == "refuses":
        with pytest.raises(OverBudget, match="budget of 8 rows"):
            await given.load()
        assert given.ask(f"select to_regclass('{given.raw}')") == [(None,)]
        assert given.ask("select status from ops.loads") == [("refused",)]
        given.redeclare(budget=Budget(rows=20))
        assert (await given.load()).stopped is None
        assert given.live() == given.end.held()
        return
    await _catch_up(given)
    given.end.write(*((number + 20, name, amount) for number, name, amount in twenty()))
    await asyncio.sleep(given.end.settles)
    await _catch_up(given)


async def _catch_up(given: Given) -> None:
    """Twenty rows with a budget of eight: each load keeps to it and gets further, until one is complete."""
    for loads in range(1, 8):  # noqa: B007 - counted
        result = await given.load()
        if result.stopped is None:
            break
        assert 0 < result.counts.rows_read < 8 + given.end.commit
        assert "budget of 8 rows" in result.stopped
        assert result.counts.reconciliation == "incomplete"
        ((status, stops),) = given.ask("select status, stops from ops.loads order by batch_id desc limit 1")
        assert (status, stops > 0) == ("stopped", True)
        assert (await given.compare()).result != "match"
    # The merge begins where the first load began: rows may have changed while that took its time.
    assert 1 < loads < 7, "a load that stops keeps what it has"
    assert given.live() == given.end.held()
    assert result.counts.reconciliation == ("match" if given.end.counts else "not_compared")
    assert (await given.compare()).result != "different"
    assert given.landed() == []


def _can_declare(given: Given, word: str) -> bool:
    return word in {field.name for field in fields(given.source.table(TABLE))}  # type: ignore[arg-type]
