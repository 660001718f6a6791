"""The promises notice a kind of source that breaks them: each fault dies of one of them, in every kind."""

from collections.abc import Callable
from unittest.mock import patch

import pytest

from flows.kinds.postgres.large.within_budget import Steps
from flows.kinds.registry import KINDS
from flows.publish.budget import Allowance, Spending
from flows.values.errors import MedallionError
from tests.kinds.conformance.end import Fixture
from tests.kinds.conformance.given import Given
from tests.kinds.conformance.kinds import FIXTURES
from tests.kinds.conformance.mutants import (
    NAMES,
    ForgetsItsPlace,
    ForgetsTheRules,
    LoadsWhatIsBehindAMask,
    MarksWhatItDoesNotSee,
    Mutant,
    NamesAnotherEvent,
    ReportsCompleteness,
    TakesASampleForAll,
    TrustsAnyCursor,
    mutants,
)
from tests.kinds.conformance.promises import (
    Promise,
    a_first_load_equals_the_source,
    a_key_that_is_not_unique_is_reported,
    a_limited_load_is_never_mistaken_for_a_full_one,
    a_list_is_complete_or_the_load_says_so,
    a_load_leaves_a_profile_of_the_rows_that_it_published,
    a_load_stops_at_its_budget_and_the_next_goes_on,
    a_plan_names_deletes,
    a_row_fixed_by_hand_and_replayed_is_in_raw_exactly_once,
    an_empty_load_is_fresh_and_the_newest_event_is_that_of_raw,
    another_cursor_is_never_trusted,
    it_is_acknowledged_after_the_commit_only,
    what_is_behind_a_mask_is_nowhere_in_the_warehouse,
)
from tests.nightly import each_once

#: The promise that is to notice the fault.
NOTICED_BY: dict[str, Promise] = {
    "drops the last row": a_first_load_equals_the_source,
    "doubles a row": a_first_load_equals_the_source,
    "swaps two values": a_first_load_equals_the_source,
    "chooses a copy": a_key_that_is_not_unique_is_reported,
    "confirms before the commit": it_is_acknowledged_after_the_commit_only,
}


# Log capture needs keys that are unique at the source, and events of one key are versions of one row: neither has two
# rows of one key to choose from.
WITHOUT_COPIES = {("changelog", "chooses a copy"), ("debezium", "chooses a copy")}


@pytest.mark.parametrize(
    ("kind", "fault"), [(kind, fault) for kind in FIXTURES for fault in NAMES if (kind, fault) not in WITHOUT_COPIES]
)
async def test_a_fault_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str, fault: str) -> None:
    given = begin(FIXTURES[kind])
    mutant = mutants(KINDS[kind], given.end)[fault]

    with patch.dict(KINDS, {kind: mutant}), pytest.raises(AssertionError):
        await NOTICED_BY[fault](given)


@pytest.mark.parametrize("kind", FIXTURES)
async def test_a_replay_that_bypasses_the_rules_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str) -> None:
    given = begin(FIXTURES[kind])

    with patch.dict(KINDS, {kind: ForgetsTheRules(KINDS[kind])}), pytest.raises(AssertionError):
        await a_row_fixed_by_hand_and_replayed_is_in_raw_exactly_once(given)


async def _nothing(*_: object) -> int:
    return 0


@pytest.mark.parametrize(("left_out", "kind"), each_once(["replay.close", "fixes.put_in_place"], FIXTURES))
async def test_a_replay_that_writes_twice_or_is_taken_back_dies_of_a_promise(
    begin: Callable[[Fixture], Given], kind: str, left_out: str
) -> None:
    """One that does not close what it loaded, and loads that know nothing of the fix."""
    given = begin(FIXTURES[kind])

    with patch(f"flows.publish.{left_out}", _nothing), pytest.raises(AssertionError):
        await a_row_fixed_by_hand_and_replayed_is_in_raw_exactly_once(given)


@pytest.mark.parametrize("kind", FIXTURES)
async def test_a_load_without_a_profile_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str) -> None:
    given = begin(FIXTURES[kind])

    with patch("flows.publish.publish.write_profile", _nothing), pytest.raises(AssertionError):
        await a_load_leaves_a_profile_of_the_rows_that_it_published(given)


@pytest.mark.parametrize("kind", [kind for kind in FIXTURES if kind in ("postgres", "databases")])
async def test_a_plan_that_overlooks_deletes_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str) -> None:
    """Of kinds whose plan counts; the others say that they cannot tell."""
    given = begin(FIXTURES[kind])

    with (
        patch.dict(KINDS, {kind: MarksWhatItDoesNotSee(KINDS[kind])}),
        pytest.raises(AssertionError),
    ):
        await a_plan_names_deletes(given)


@pytest.mark.parametrize("kind", [kind for kind in FIXTURES if kind in ("postgres", "databases")])
async def test_a_kind_that_trusts_any_cursor_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str) -> None:
    """Of kinds that can follow another column."""
    given = begin(FIXTURES[kind])

    # A value of another column may also be none that this one could have.
    with (
        patch.dict(KINDS, {kind: TrustsAnyCursor(KINDS[kind])}),
        pytest.raises((AssertionError, MedallionError)),
    ):
        await another_cursor_is_never_trusted(given)


@pytest.mark.parametrize("kind", [kind for kind in FIXTURES if kind in ("postgres", "databases")])
async def test_a_kind_that_names_no_column_for_events_dies_of_a_promise(
    begin: Callable[[Fixture], Given], kind: str
) -> None:
    """Of kinds whose cursor here is a time."""
    given = begin(FIXTURES[kind])

    with patch.dict(KINDS, {kind: NamesAnotherEvent(KINDS[kind])}), pytest.raises(AssertionError):
        await an_empty_load_is_fresh_and_the_newest_event_is_that_of_raw(given)


@pytest.mark.parametrize("kind", [kind for kind, fixture in FIXTURES.items() if fixture.gullible])
async def test_a_reader_that_believes_every_end_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str) -> None:
    """Of kinds whose source can drop its last page, or stop early in another way."""
    given = begin(FIXTURES[kind])
    gullible, ways = FIXTURES[kind].gullible, given.end.early_ends
    assert gullible is not None
    assert ways

    for way in ways:
        given.end.early_ends = (way,)
        with gullible(), pytest.raises(AssertionError, match=way):
            await a_list_is_complete_or_the_load_says_so(given)


@pytest.mark.parametrize("kind", [kind for kind in FIXTURES if KINDS[kind].at_budget == "stops"])
@pytest.mark.parametrize("mutant", [ReportsCompleteness, ForgetsItsPlace])
async def test_a_kind_that_stops_and_loses_the_rest_dies_of_a_promise(
    begin: Callable[[Fixture], Given], kind: str, mutant: type[Mutant]
) -> None:
    """Of kinds that stop in the middle."""
    given = begin(FIXTURES[kind])

    with patch.dict(KINDS, {kind: mutant(KINDS[kind])}), pytest.raises(AssertionError):
        await a_load_stops_at_its_budget_and_the_next_goes_on(given)


@pytest.mark.parametrize("kind", FIXTURES)
async def test_a_kind_that_overruns_its_budget_dies_of_a_promise(begin: Callable[[Fixture], Given], kind: str) -> None:
    """A reader that counts nothing, and asks nobody before it begins."""
    given = begin(FIXTURES[kind])

    with (
        patch.object(Spending, "_charge", lambda *_: None),
        patch.object(Spending, "spend", lambda *_, **__: None),
        patch.object(Allowance, "too_small_for", lambda *_, **__: None),
        patch.object(Steps, "within", lambda _, wanted, **__: wanted),
        pytest.raises((AssertionError, pytest.fail.Exception)),
    ):
        await a_load_stops_at_its_budget_and_the_next_goes_on(given)


@pytest.mark.parametrize("kind", [kind for kind in FIXTURES if kind in ("postgres", "databases")])
@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (LoadsWhatIsBehindAMask, what_is_behind_a_mask_is_nowhere_in_the_warehouse),
        (TakesASampleForAll, a_limited_load_is_never_mistaken_for_a_full_one),
    ],
)
async def test_a_fault_of_databases_dies_of_a_promise(
    begin: Callable[[Fixture], Given], kind: str, mutant: type[Mutant], promise: Promise
) -> None:
    """Of kinds that can mask, and read in part."""
    given = begin(FIXTURES[kind])

    with patch.dict(KINDS, {kind: mutant(KINDS[kind])}), pytest.raises(AssertionError):
        await promise(given)
