"""Records in quarantine: fixed by their fields, and as text that could not be stored."""

from collections.abc import Callable

import pytest

from flows.values.errors import MedallionError
from flows.verbs.fix import fix
from flows.verbs.replay import plan_replay, replay
from tests.kinds.conformance.end import Fixture
from tests.kinds.conformance.given import Given
from tests.kinds.conformance.kinds import FIXTURES

RECORDS = ("api", "dlt")


def entry(given: Given) -> int:
    ((number,),) = given.ask("select quarantine_id from quarantine.rows where resolved_at is null")
    return int(number)


@pytest.mark.parametrize("kind", RECORDS)
async def test_a_record_that_jsonb_cannot_hold_is_loaded_once_its_field_is_right(
    begin: Callable[[Fixture], Given], kind: str
) -> None:
    given = begin(FIXTURES[kind])
    given.end.write((1, "one", 1), (2, "two", 2), (3, "three", 3), (4, "nul\x00", 4))
    await given.load()
    number = entry(given)
    assert [one.verdict for one in (await plan_replay([str(number)]))[0].outcomes] == ["payload_holds_nul"]
    with pytest.raises(MedallionError, match="still cannot be stored"):
        await fix(number, {"payload.amount": "5"}, "ada", "a reason")

    assert (await fix(number, {"payload.name": "four"}, "ada", "a reason")).verdict is None
    await replay([str(number)], "ada")

    assert given.live()[4] == ("four", 4)
    for _ in range(2):
        result = await given.load()
        assert given.live()[4] == ("four", 4)
        assert result.counts.reconciliation == ("match" if given.end.counts else "not_compared")
    assert given.ask("select resolution, withheld from quarantine.rows") == [("fixed by hand", True)]


@pytest.mark.parametrize("kind", RECORDS)
async def test_a_field_that_no_record_has_and_a_column_made_of_the_record_are_refused(
    begin: Callable[[Fixture], Given], kind: str
) -> None:
    given = begin(FIXTURES[kind])
    given.end.write((1, "one", 1), (2, "two", 2), (3, "three", 3), (4, "bad", -4))
    await given.load()
    number = entry(given)

    with pytest.raises(MedallionError, match="no field amuont"):
        await fix(number, {"payload.amuont": "5"}, "ada", "a reason")
    with pytest.raises(MedallionError, match="is made of the record"):
        await fix(number, {"id": "5"}, "ada", "a reason")
    with pytest.raises(MedallionError, match="jsonb"):
        await fix(number, {"payload": "{"}, "ada", "a reason")
    fixed = await fix(number, {"payload": '{"id": 4, "name": "4", "amount": 1}'}, "ada", "a reason")
    assert fixed.verdict is None


@pytest.mark.parametrize("kind", RECORDS)
async def test_a_record_cannot_take_the_place_of_another(begin: Callable[[Fixture], Given], kind: str) -> None:
    given = begin(FIXTURES[kind])
    given.end.write((1, "one", 1), (2, "two", 2), (3, "three", 3), (4, "nul\x00", 4))
    await given.load()
    number = entry(given)

    with pytest.raises(MedallionError, match="column id belongs to the key"):
        await fix(number, {"payload": '{"id": 1, "name": "mine", "amount": 1}'}, "ada", "a reason")
    given.ask("update quarantine.rows set row_key = null")  # as of a record whose key cannot be read
    fixed = await fix(number, {"payload": '{"id": 1, "name": "mine", "amount": 1}'}, "ada", "a reason")
    await replay([str(number)], "ada")

    assert fixed.verdict == "key_taken"
    assert given.live()[1] == ("one", 1)
