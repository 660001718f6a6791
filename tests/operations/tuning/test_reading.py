"""A cursor or partitions are recommended if what is loaded proves that they would have missed nothing."""

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Sequence, Timestamp
from flows.kinds.postgres import Table
from tests.operations.tuning.tuned import ROWS, YESTERDAY, Tuned

TICKETS = Table("tickets", key="id", load=Replace())
WORDS = {"Append": Append, "Merge": Merge, "Overwrite": Overwrite, "Sequence": Sequence, "Timestamp": Timestamp}
#: Thirty other rows change each time.
MOVES = "update tickets set note = note || '.', updated_at = clock_timestamp() where id % 400 = {n}"
STANDS = "update tickets set note = note || '.' where id % 400 = {n}"
THIRD = "update tickets set note = note || '.', updated_at = clock_timestamp() where id % 3 = {n} % 3"
COMES = (
    "insert into tickets (sold_on, note, created_at) select current_date, 'new', now() - interval '400 days' "
    "from generate_series(1, 30)"
)


def as_recommended(change: str) -> Table:
    """The table with the recommended arguments, for one that no file declares."""
    arguments = change.splitlines()[-1]
    table: Table = eval(f"Table('tickets', key='id', {arguments})", {"Table": Table, **WORDS})  # noqa: S307 - ours
    return table


async def test_a_cursor_that_rises_with_each_change_is_recommended_and_the_next_loads_read_changed_rows_only(
    ends: Tuned,
) -> None:
    await ends.followed(TICKETS, MOVES, MOVES, MOVES)
    found = (await ends.recommended(TICKETS))["cursor"]
    assert 'cursor=Timestamp("updated_at", lag="10 min"), load=Merge(), deletes=True' in found.change
    assert (found.runs, found.gain > 60) == (8, True)
    assert "without an index" in found.risk
    accepted = await ends.apply(found)
    assert not accepted.applied, "a declaration is edited by a person"
    assert [each.state for each in await ends.evaluated()] == ["accepted"]

    declared = as_recommended(found.change)
    await ends.loads(declared, 1, MOVES)  # reads all once more, since the cursor is another
    await ends.loads(declared, 3, MOVES)
    (tuning,) = await ends.evaluated()
    assert (tuning.state, tuning.verdict) == ("learning", "learning"), "three loads say nothing yet"
    await ends.loads(declared, 5, MOVES)
    (tuning,) = await ends.evaluated()
    assert tuning.before["rows read per load"]["median"] == ROWS
    assert tuning.after is not None
    # Each reads ten minutes back, which is all that was changed here.
    assert tuning.after["rows read per load"]["median"] <= 30 * 12
    assert (tuning.verdict, tuning.accepted_by) == ("helped", "night-shift")
    assert ends.same("tickets", "id, note")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (STANDS, "a change leaves updated_at"),
        pytest.param(THIRD, "a third of all rows changes", marks=pytest.mark.long),
    ],
)
async def test_a_cursor_that_would_have_missed_rows_or_saved_nothing_is_not_recommended(
    ends: Tuned, change: str, why: str
) -> None:
    await ends.followed(TICKETS, change, change, change)
    assert "cursor" not in await ends.recommended(TICKETS), why


async def test_one_change_without_a_new_time_is_enough_to_reject_the_column(ends: Tuned) -> None:
    await ends.followed(TICKETS, MOVES, MOVES, f"{MOVES}; update tickets set note = 'corrected' where id = 11")
    assert "cursor" not in await ends.recommended(TICKETS)


async def test_rows_that_are_only_added_are_followed_by_their_number(ends: Tuned) -> None:
    await ends.followed(TICKETS, COMES, COMES, COMES, inserts=True)
    found = (await ends.recommended(TICKETS))["cursor"]
    assert 'cursor=Sequence("id"), load=Append()' in found.change
    await ends.loads(as_recommended(found.change), 2, COMES)
    assert ends.raw("select rows_read from ops.loads where strategy = 'append' order by batch_id desc limit 1") == [
        (30,)
    ]


async def test_fewer_loads_than_eight_are_learning(ends: Tuned) -> None:
    ends.ledger("tickets", 7, strategy="replace", rows=ROWS, changed=30, ending=YESTERDAY)
    advice = await ends.advice(TICKETS)
    assert not advice.recommendations
    assert [(each.bottleneck, each.runs) for each in advice.findings] == [("learning", 7)]


async def test_a_small_table_is_left_as_it_is(ends: Tuned) -> None:
    ends.ledger("tickets", 6, strategy="replace", rows=9_000, changed=30, ending=YESTERDAY)
    ends.source("delete from tickets where id > 9000")
    await ends.loads(TICKETS)
    await ends.loads(TICKETS, 3, MOVES)
    assert await ends.recommended(TICKETS) == {}


#: One row in a hundred is of today, the others are one to 99 months older.
BY_MONTH = "update tickets set sold_on = current_date - (id % 100)::int * 31 where id > 1"
RECENT = "update tickets set note = note || '.' where id % 1000 = {n} % 10 * 100"


async def test_partitions_are_recommended_if_all_changes_are_recent(ends: Tuned) -> None:
    ends.source(BY_MONTH)
    await ends.followed(TICKETS, RECENT, RECENT, RECENT)
    found = (await ends.recommended(TICKETS))["partition"]
    assert 'load=Overwrite(by="sold_on", every="month", last=1)' in found.change
    declared = as_recommended(found.change)
    await ends.loads(declared, 1, RECENT)
    assert ends.raw("select strategy, rows_read from ops.loads order by batch_id desc limit 1") == [("overwrite", 120)]
    assert ends.same("tickets", "id, note")


@pytest.mark.parametrize(
    "old",
    [
        "update tickets set note = 'old' where id = 1",
        pytest.param("delete from tickets where id = 5", marks=pytest.mark.long),
    ],
)
async def test_partitions_are_not_recommended_if_an_old_row_changes_or_any_is_deleted(ends: Tuned, old: str) -> None:
    ends.source(BY_MONTH)
    await ends.followed(TICKETS, RECENT, RECENT, f"{RECENT}; {old}")
    assert "partition" not in await ends.recommended(TICKETS)
