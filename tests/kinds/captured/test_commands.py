"""Commands on tables whose changes triggers record: cursor, reload, backfill, erase, and rows in quarantine."""

from collections.abc import Iterator

import pytest

from flows.declare import Rule, Triggers
from flows.declare.subject import Subject
from flows.kinds.captured import Table
from flows.privacy import erase as erasing
from flows.privacy.returned import erase_returned
from flows.values.errors import DeclarationError
from flows.values.settings import settings
from flows.verbs.backfill import dividing_column
from flows.verbs.cursor import move_cursor, stored_cursors
from flows.verbs.reload import request_reload
from flows.verbs.replay import replay
from tests.kinds.captured.captured_ends import CapturedEnds

PERSON = Subject("item", key="id", home="shop.items", identifying=("name",))


@pytest.fixture
def found(ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch) -> Iterator[CapturedEnds]:
    """Ends whose source commands find, as it is declared at the time."""

    def source(_: str) -> object:
        return ends.declared

    def table(_: str) -> tuple[object, Table]:
        return ends.declared, ends.tables[0]

    for verb in ("cursor", "reload", "replay"):
        monkeypatch.setattr(f"flows.verbs.{verb}.find_table", table, raising=False)
    monkeypatch.setattr("flows.verbs.cursor.find_source", source)
    monkeypatch.setattr("flows.verbs.cursor.choose", lambda _: {"shop": None})
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", ends.shop.url("extractor"))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", ends.warehouse.url("loader"))
    settings.cache_clear()
    yield ends
    settings.cache_clear()


async def test_a_cursor_is_shown_and_cannot_be_moved(found: CapturedEnds) -> None:
    """No stored value says where a load begins; moved, it would say nothing."""
    await found.create("id bigint primary key, name text")
    found.source("insert into items values (1, 'a')")
    await found.load()
    (cursor,) = await stored_cursors(None)
    assert (cursor.table, cursor.value) == ("shop.items", "1")
    for value in ("0", None):
        with pytest.raises(DeclarationError, match=r"medallion reload shop\.items"):
            await move_cursor("shop.items", value, "somebody")


async def test_a_requested_reload_reads_all_rows_once_and_keeps_what_waits(found: CapturedEnds) -> None:
    await found.create("id bigint primary key, name text")
    found.source("insert into items values (1, 'a'), (2, 'b')")
    await found.load()
    found.raw("update raw_shop.items set name = 'wrong' where id = 1")
    found.source("delete from items where id = 2")
    await request_reload(["shop.items"], "somebody")
    result = await found.load()
    assert (result.strategy, found.same(), found.waiting()) == ("reload", True, [])
    assert (await found.load()).strategy == "merge"
    await request_reload(["shop.items"], "somebody", recreate=True)
    found.source("insert into items values (3, 'c')")
    assert ((await found.load()).strategy, found.same(), found.waiting()) == ("initial", True, [])


async def test_a_backfill_says_why_there_is_none(found: CapturedEnds) -> None:
    table = await found.create("id bigint primary key, day date")
    with pytest.raises(DeclarationError):
        dividing_column(found.declared, table, "day")


@pytest.mark.parametrize("per", ["statement", "row"])
async def test_rows_in_quarantine_that_a_changed_rule_allows_are_replayed(found: CapturedEnds, per: str) -> None:
    """Their keys are no longer in the change table."""
    found.triggers = Triggers(per=per)  # type: ignore[arg-type]
    strict = (Rule("short", "length(name) < 3"),)
    await found.create("id bigint primary key, name text", rules=strict, max_quarantined=0.9)
    await found.load()
    found.source("insert into items values (1, 'a'), (2, 'long'), (3, 'longer')")
    assert (await found.load()).counts.rows_quarantined == 2
    assert found.waiting() == []
    found.source("delete from items where id = 3")
    await found.load()
    found.redeclare(rules=(Rule("short", "length(name) < 9"),))
    await replay(["shop.items"], "somebody")
    assert found.same()
    assert (await found.load()).counts.reconciliation == "match"
    assert found.raw("select count(*) from quarantine.rows where resolved_at is null") == [(0,)]


@pytest.fixture
def person(found: CapturedEnds, monkeypatch: pytest.MonkeyPatch) -> CapturedEnds:
    monkeypatch.setattr(erasing, "SUBJECTS", (PERSON,))
    monkeypatch.setattr("flows.privacy.returned.SUBJECTS", (PERSON,))
    monkeypatch.setattr("flows.verbs.preview.find_table", lambda _: (found.declared, found.tables[0]))
    monkeypatch.setenv("MEDALLION_ERASURE_KEY", "a-secret-of-the-tests")
    settings.cache_clear()
    return found


async def test_a_person_who_is_erased_does_not_return_with_a_key_that_waits(person: CapturedEnds) -> None:
    """The source has deleted the row, and its key waits there when the warehouse forgets it."""
    await person.create("id bigint primary key, name text")
    person.source("insert into items values (1, 'Ann'), (2, 'Bob')")
    await person.load()
    person.source("update items set name = 'Anna' where id = 1")
    person.source("delete from items where id = 1")
    assert (await erasing.erase(PERSON, "1")).remains == []
    counts = (await person.load()).counts
    assert (counts.rows_deleted, counts.reconciliation) == (0, "match")
    assert person.raw("select id from raw_shop.items") == [(2,)]
    assert person.waiting() == [], "the source forgets the key with the load"


async def test_a_person_whom_the_source_still_has_is_erased_again(person: CapturedEnds) -> None:
    await person.create("id bigint primary key, name text")
    person.source("insert into items values (1, 'Ann'), (2, 'Bob')")
    await person.load()
    await erasing.erase(PERSON, "1", despite_source=True)
    person.source("update items set name = 'Anna' where id = 1")
    batch = (await person.load()).batch_id
    assert await erase_returned("shop", [batch]) == 1
    assert person.raw("select id from raw_shop.items") == [(2,)]
