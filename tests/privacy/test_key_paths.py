"""A person is found under whatever name, however deep, and in whatever form a source sends the key."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from demo.commerce.day import Day
from demo.commerce.records import collections_of
from flows.declare import KeyPath, Subject
from flows.privacy.draft import draft_paths
from flows.privacy.erase import Erasure, erase, plan_erasure
from flows.privacy.returned import erase_returned
from flows.privacy.search import is_called_like, scalars
from flows.values.errors import DeclarationError
from tests.conftest import TestDatabase
from tests.kinds.loading import rows
from tests.privacy.one_household import HOUSEHOLD, KEY

# What records of other sources look like; `i` tells them apart.
NESTED = {
    "nested": {"household": {"id": 5}, "i": 1},
    "text": {"household": {"id": " 05"}, "i": 2},
    "number": {"household": {"id": 5.0}, "i": 3},
    "alone in a list": {"members": [{"id": 5}], "i": 4},
    "twice in a list": {"members": [{"id": 5}, {"id": "5"}], "i": 5},
    "list of keys": {"household_ids": [5], "i": 6},
}
SHARED = {
    "with others": {"members": [{"id": 5}, {"id": 7}], "i": 7},
    "keys of others": {"household_ids": [7, 5], "i": 8},
    "deeper": {"visit": {"with": {"household": {"id": 5}}}, "i": 9},
}
OTHERS = ({"household": {"id": 55}, "i": 10}, {"members": [], "i": 11}, {"id": 5, "coupon": {"id": 5}, "i": 12})
PATHS = (
    KeyPath("crm.*", "household.id"),
    KeyPath("crm.*", "members[*].id"),
    KeyPath("crm.*", "household_ids[*]"),
    KeyPath("crm.letters", "customer"),
    KeyPath("crm.people", "contact.mail", of="email"),
)
DECLARED = replace(HOUSEHOLD, paths=PATHS)


def forget(subject: Subject = DECLARED, key: str = KEY) -> Erasure:
    return asyncio.run(erase(subject, key, despite_source=True))


@contextmanager
def loader_of(warehouse: TestDatabase) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        yield loader


def fill_crm(warehouse: TestDatabase, type_: str) -> None:
    """Records in a column of that type: in raw, on their way, and in quarantine."""
    with loader_of(warehouse) as loader:
        loader.execute("create schema if not exists raw_crm")
        loader.execute(f"create table raw_crm.visits (payload {type_}, _batch_id bigint)".encode())
        for record in (*NESTED.values(), *SHARED.values(), *OTHERS):
            loader.execute("insert into raw_crm.visits values (%s, 9)", [json.dumps(record)])
        loader.execute("create table landing.crm__visits as select * from raw_crm.visits")
        loader.execute("create table raw_crm.letters (customer text, household_key text[], payload text)")
        loader.execute("insert into raw_crm.letters values ('0005', null, '{'), ('15', null, null)")


def left_in(warehouse: TestDatabase, table: str) -> list[int]:
    return sorted(json.loads(row["p"])["i"] for row in rows(warehouse, f"select payload::text as p from {table}"))


@pytest.mark.parametrize("type_", ["jsonb", "json", "text"])
def test_a_key_is_found_along_declared_paths_and_rows_of_others_are_reported(held: TestDatabase, type_: str) -> None:
    fill_crm(held, type_)

    done = forget()

    kept = [7, 8, 9, 10, 11, 12]
    assert left_in(held, "raw_crm.visits") == kept
    assert left_in(held, "landing.crm__visits") == kept
    assert rows(held, "select customer from raw_crm.letters") == [{"customer": "15"}]
    assert [(line.place, line.column, line.rows) for line in done.left] == [
        ("landing.crm__visits", "payload", 3), ("raw_crm.visits", "payload", 3),
    ]  # fmt: skip
    assert rows(held, "select event from ops.erasures order by event_id desc limit 1") == [{"event": "incomplete"}]


def test_a_field_that_is_called_like_the_key_is_reported_if_no_path_is_declared(held: TestDatabase) -> None:
    fill_crm(held, "jsonb")

    done = forget(replace(HOUSEHOLD, paths=()))

    found = {(line.place, line.path) for line in done.left if line.path}
    assert {path for place, path in found if place == "raw_crm.visits"} == {
        "household.id", "household_ids[*]", "visit.with.household.id",
    }  # fmt: skip
    assert not done.proven


def test_a_person_who_is_nested_is_recognised_when_a_source_sends_it_again(held: TestDatabase) -> None:
    fill_crm(held, "json")
    forget()
    with loader_of(held) as loader:
        for record in NESTED.values():
            loader.execute("insert into raw_crm.visits values (%s, 10)", [json.dumps(record)])
        loader.execute("insert into raw_crm.visits values (%s, 10)", [json.dumps(OTHERS[0] | {"i": 13})])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.privacy.returned.SUBJECTS", (DECLARED,))
        assert asyncio.run(erase_returned("crm", [10])) == 1

    assert left_in(held, "raw_crm.visits") == [7, 8, 9, 10, 11, 12, 13]


def test_identifying_values_are_collected_along_paths(held: TestDatabase) -> None:
    with loader_of(held) as loader:
        loader.execute("create schema raw_crm; create table raw_crm.people (payload jsonb, _batch_id bigint)")
        loader.execute(
            """insert into raw_crm.people values ('{"household": {"id": 5}, "contact": {"mail": "zz@q.org"}}')"""
        )
        loader.execute("insert into ops.incidents (title) select 'ask ZZ@q.org' where false")
        loader.execute("update ops.errors set what = 'the row of zz@q.org'")
    forget()
    assert rows(held, "select what from ops.errors") == [{"what": "the row of [erased]"}]


@pytest.mark.parametrize("key", [" 5", "0005", "5\n", "+5"])
def test_a_key_is_read_as_its_type(held: TestDatabase, key: str) -> None:
    """As text these are nobody, and the erasure of nobody was proven."""
    assert forget(key=key).left == []
    assert rows(held, "select from raw_shop.households where household_id = 5") == []
    assert len({line["key_hash"] for line in rows(held, "select key_hash from ops.erasures "
                                                        "where subject = 'household'")}) == 1  # fmt: skip


@pytest.mark.parametrize(("key", "problem"), [("5.0", "not a household_id"), ("xyzzy", "not a household_id"),
                                              ("999999999", "no table has")])  # fmt: skip
def test_a_key_that_nobody_has_is_an_error_and_proves_nothing(held: TestDatabase, key: str, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem) as refused:
        asyncio.run(plan_erasure(HOUSEHOLD, key))
    assert key not in str(refused.value)
    with pytest.raises(DeclarationError, match=problem):
        forget(HOUSEHOLD, key)
    assert rows(held, "select from ops.erasures") == []


def test_who_was_erased_may_be_erased_again(held: TestDatabase) -> None:
    """The same request twice is no mistake."""
    forget()
    again = forget()
    assert again.deleted == []
    assert again.proven


def test_zeros_in_front_of_a_text_are_another_key(held: TestDatabase) -> None:
    """Numbers of customers that are texts at home: `0005` and `5` are two people."""
    member = Subject("member", key="member_no", home="crm.members")
    with loader_of(held) as loader:
        loader.execute("create schema raw_crm; create table raw_crm.members (member_no text)")
        loader.execute("insert into raw_crm.members values ('0005'), ('5')")
    forget(member, "0005")
    assert rows(held, "select member_no from raw_crm.members") == [{"member_no": "5"}]


def test_paths_of_the_demo_are_declared_as_a_scan_of_its_records_drafts_them(held: TestDatabase) -> None:
    """Records as the API really sends them."""
    with loader_of(held) as loader:
        loader.execute("drop schema raw_marketing cascade; create schema raw_marketing")
        for table, collection in collections_of(Day(1, None)).items():  # type: ignore[arg-type]
            loader.execute(f"create table raw_marketing.{table} (payload jsonb)".encode())
            with loader.cursor().copy(f"copy raw_marketing.{table} from stdin".encode()) as copy:
                for body in collection.bodies:
                    copy.write_row([body.decode()])
    drafted = asyncio.run(draft_paths(replace(HOUSEHOLD, paths=())))
    assert {(line.path.table, line.path.path) for line in drafted} == {(p.table, p.path) for p in HOUSEHOLD.paths}
    assert asyncio.run(draft_paths(HOUSEHOLD)) == [], "declared paths are not drafted again"


def test_a_field_is_recognised_by_its_name() -> None:
    for path in ("household.id", "householdId", "a.household_no", "households[*]", "households[*].key", "household"):
        assert is_called_like(path, HOUSEHOLD), path
    for path in ("id", "households", "household.size", "coupon.id", "household_size"):
        assert not is_called_like(path, HOUSEHOLD), path
    assert list(scalars({"a": [{"b": 1}], "c": True, "d": None})) == [("a[*].b", "1")]


def test_a_path_of_something_unknown_is_refused() -> None:
    with pytest.raises(DeclarationError, match="which the subject does not declare"):
        replace(HOUSEHOLD, paths=(KeyPath("crm.x", "a", of="b"),))
    with pytest.raises(DeclarationError, match="does not name a table"):
        KeyPath("crm", "a")
    for path in ("", "a..b", 'a."b"', "$.a"):
        with pytest.raises(DeclarationError, match="not a path of fields"):
            KeyPath("crm.x", path)


def test_a_line_comes_back_without_its_basket_and_is_recognised(held: TestDatabase) -> None:
    """It says only to which basket it belongs, and the basket is gone."""
    basket = rows(held, "select basket_id from raw_shop.baskets where household_id = 5 limit 1")[0]["basket_id"]
    lines = rows(held, f"select * from raw_shop.basket_items where basket_id = {basket}")
    forget()
    with loader_of(held) as loader:
        loader.execute(
            "insert into raw_shop.basket_items select * from jsonb_populate_record(null::raw_shop.basket_items, %s)",
            [json.dumps(lines[0] | {"_batch_id": 99}, default=str)],
        )
    assert asyncio.run(erase_returned("shop", [99])) == 1
    assert rows(held, f"select from raw_shop.basket_items where basket_id = {basket}") == []
    assert rows(held, "select event, subject from ops.erasures order by event_id desc limit 1") == [
        {"event": "returned", "subject": "household"}
    ]
