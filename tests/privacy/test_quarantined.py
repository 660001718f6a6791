"""Quarantined rows of a person: erased with their fixes, kept only as long as the source has them."""

import asyncio

import psycopg

from flows.privacy.erase import erase
from flows.privacy.replay import load_again
from flows.purge import purge_expired
from flows.verbs.fix import fix
from tests.conftest import TestDatabase
from tests.kinds.loading import rows
from tests.privacy.one_household import HOUSEHOLD, KEY, WORDS

_BASKET = (
    "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) "
    "select 1, 'shop', 'baskets', jsonb_build_object('basket_id', -7), 'r', to_jsonb(b) - array['_extracted_at', "
    "'_source_system', '_batch_id', '_deleted_at'] || '{\"basket_id\": -7, \"household_id\": 6}', 'h' "
    "from raw_shop.baskets as b limit 1 returning quarantine_id"
)


def write(warehouse: TestDatabase, statement: str) -> int:
    with psycopg.connect(warehouse.url("loader"), autocommit=True) as loader:
        cursor = loader.execute(statement.encode())
        found = cursor.fetchone() if cursor.description else None
        return int(found[0]) if found else 0


def test_fixes_and_reasons_forget_the_person_too(held: TestDatabase) -> None:
    number = write(held, _BASKET)
    asyncio.run(fix(number, {"household_id": KEY}, "ada", "it is of household five"))
    write(
        held,
        "insert into ops.reveals (place, quarantine_ids, rows, reason, revealed_by) "
        f"values ('shop.baskets', '{{1}}', 1, '{WORDS[1]} called', 'ada')",
    )

    done = asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))

    assert done.left == []
    assert rows(held, "select from quarantine.fixes") == []
    assert rows(held, "select reason, revealed_by from ops.reveals") == [
        {"reason": "[erased] called", "revealed_by": "ada"}
    ]


def test_an_erased_person_does_not_come_back_by_a_replay(held: TestDatabase, shop: TestDatabase) -> None:
    asyncio.run(erase(HOUSEHOLD, KEY, despite_source=True))
    number = write(held, _BASKET)
    asyncio.run(fix(number, {"household_id": KEY}, "ada", "a guess"))

    (done,) = asyncio.run(load_again([str(number)], "ada"))

    assert done.result is not None
    assert done.result.counts.rows_inserted == 1
    assert rows(held, "select from raw_shop.baskets where household_id = 5 or basket_id = -7") == []
    assert rows(held, "select from quarantine.fixes") == []
    assert rows(held, "select event from ops.erasures order by event_id desc limit 1") == [{"event": "returned"}]


def test_a_decided_row_is_kept_as_long_as_the_source_has_it(held: TestDatabase) -> None:
    number = write(held, _BASKET)
    asyncio.run(fix(number, {"household_id": "6"}, "ada", "a reason"))
    write(held, "update quarantine.rows set resolved_at = '2020-01-01', resolution = 'discarded' where batch_id = 1")
    asyncio.run(purge_expired(delete=True))
    assert len(rows(held, f"select from quarantine.rows where quarantine_id = {number}")) == 1

    write(held, "update quarantine.rows set released_at = now() where batch_id = 1")
    asyncio.run(purge_expired(delete=True))

    assert rows(held, "select from quarantine.rows where batch_id = 1") == []
    assert rows(held, "select from quarantine.fixes") == []
