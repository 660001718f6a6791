"""What an erasure must leave alone: the ledger, and other people, whatever name the person has chosen to bear."""

import asyncio
import json

import psycopg
import pytest

from flows.privacy.erase import Erasure, erase
from tests.conftest import TestDatabase
from tests.kinds.loading import rows
from tests.nightly import chosen
from tests.privacy.one_household import HOUSEHOLD, KEY, known_as

# Words that operations write into their own columns, as a customer may call itself on any form.
NAMES = ("shop", "households", "published", "quarantine", "row_data", "household_id")
LEDGER = (
    "ops.loads", "ops.cursors", "ops.runs", "ops.schema_version", "ops.record_fields", "ops.schema_changes",
    "ops.circuits", "ops.chunks",
)  # fmt: skip


def forget() -> Erasure:
    return asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))


def ledger(warehouse: TestDatabase) -> dict[str, list[str]]:
    return {
        table: [line["row"] for line in rows(warehouse, f"select t::text as row from {table} as t order by 1")]
        for table in LEDGER
    }


def wait_at_the_door(warehouse: TestDatabase, record: dict[str, object]) -> None:
    """A row in quarantine that says by no key whose it is."""
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        loader.execute(
            "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
            "values (1, 'shop', 'households', null, 'email is an address', %s, %s)",
            [json.dumps(record), json.dumps(record)],
        )


# A source, a status and a column; for each of them the person is loaded under another name.
@pytest.mark.parametrize("name", chosen(NAMES, "shop", "published", "row_data"))
def test_a_person_named_like_a_word_of_the_ledger_takes_nothing_of_it_along(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Cursors are found by the source's name: a customer called `shop` must not make every table be read anew."""
    with known_as(name, warehouse, shop, monkeypatch) as held:
        wait_at_the_door(held, {"full_name": "Somebody Else", "row_data": "x"})
        before = ledger(held)

        forget()

        assert ledger(held) == before
        assert len(rows(held, "select from quarantine.rows where row_data ->> 'full_name' = 'Somebody Else'")) == 1


def test_a_person_is_proven_gone_although_operations_use_the_name(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with known_as("shop", warehouse, shop, monkeypatch):
        left = {(found.place, found.column) for found in forget().left}
    assert not {place for place, _ in left if place.startswith(("ops.", "quarantine."))}
    assert not {column for _, column in left if column.startswith("_")}


def test_who_bears_a_longer_name_stays_at_the_door(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with known_as("Anna", warehouse, shop, monkeypatch) as held:
        wait_at_the_door(held, {"full_name": "Susanna Ray"})
        wait_at_the_door(held, {"full_name": "Anna Karenina"})
        wait_at_the_door(held, {"full_name": "anna"})
        forget()
        names = rows(held, "select row_data ->> 'full_name' as name from quarantine.rows order by quarantine_id")
        assert [line["name"] for line in names if line["name"]] == ["Susanna Ray", "Anna Karenina"]


def test_a_word_in_another_case_goes_from_texts_of_operations_too(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with known_as("Zqquark O'Neil", warehouse, shop, monkeypatch) as held:
        with psycopg.connect(held.url("loader"), autocommit=True) as loader:
            loader.execute("update ops.errors set what = 'ZQQUARK O''NEIL is twice here'")
        assert forget().left == []
        assert rows(held, "select what from ops.errors") == [{"what": "[erased] is twice here"}]
