"""Whole loads of APIs: of the demo's own, and of servers that send what jsonb cannot hold."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from demo.commerce import set_day
from flows.kinds.api import Api, ApiKeyHeader, Endpoint, LinkHeader, Since
from flows.publish.session import LoadResult
from flows.sources.marketing import marketing
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, DataRefused, RateLimited
from flows.verbs.load import load_table
from infra.local.ports import any_free
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, json_page, raw, response, serve, status
from tests.kinds.loading import at, landing_tables, loads, open_quarantine, raw_rows, rows, setting
from tests.sessions import take_over_sessions

KEY = "canary-key-77f1"
ITEMS = Api(
    "marketing",
    connection="marketing",
    auth=ApiKeyHeader("X-API-Key"),
    pagination=LinkHeader(),
    endpoints=[
        Endpoint(
            "items",
            path="/v1/items",
            key_type="bigint",
            total="meta.total",
            cursor=Since("updated_since", field="updated_at", lag="10 min"),
            max_quarantined=0.5,
        )
    ],
)


@dataclass(frozen=True)
class Commerce:
    """The demo's API, running."""

    url: str
    state: Path


@pytest.fixture(scope="module")
def commerce(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commerce]:
    state = tmp_path_factory.mktemp("commerce")
    port = any_free()
    command = [sys.executable, "-m", "demo.commerce", "--port", str(port), "--state", str(state)]
    options = ["--rate", "2000", "--burst", "2000", "--fail-every", "9"]
    with subprocess.Popen([*command, *options], env=os.environ | {"COMMERCE_API_KEY": KEY}) as process:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{url}/healthz").raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.05)
        yield Commerce(url, state)
        process.terminate()


async def load(warehouse: TestDatabase, url: str, endpoint: str, api: Api = marketing) -> LoadResult:
    connection = ApiConnection("marketing", url, KEY)
    take_over_sessions()
    return await load_table(at(warehouse, "loader"), connection, api, api.table(endpoint))


async def load_items(warehouse: TestDatabase, *answers: Answer, forever: Answer | None = None) -> LoadResult:
    """A load of `items` from a server that gives these answers."""
    async with serve(*answers, forever=forever) as server:
        return await load(warehouse, server.url, "items", ITEMS)


def item(identity: object, **fields: object) -> dict[str, object]:
    return {"id": identity, "updated_at": "2017-03-03T00:00:00Z", **fields}


def page(*records: bytes, total: int | None = None) -> Answer:
    """A page whose records are these very bytes."""
    count = len(records) if total is None else total
    return raw(response(200, b'{"data": [' + b", ".join(records) + b'], "meta": {"total": %d}}' % count))


# -- the demo's API


async def test_a_first_load_a_change_and_a_rerun_of_the_real_api(warehouse: TestDatabase, commerce: Commerce) -> None:
    """Every ninth answer is a 503 on the way."""
    set_day(commerce.state, 1)
    first = await load(warehouse, commerce.url, "redemptions")
    again = await load(warehouse, commerce.url, "redemptions")
    before = raw_rows(warehouse, "redemptions", "raw_marketing")
    set_day(commerce.state, 2)

    later = await load(warehouse, commerce.url, "redemptions")

    assert (first.strategy, first.counts.rows_inserted, first.counts.source_rows) == ("initial", 2096, 2096)
    assert again.lower is not None
    assert again.counts.rows_read < 50
    assert again.counts.changed == 0
    assert (later.strategy, later.counts.rows_inserted, later.counts.rows_updated) == ("merge", 6, 0)
    assert {result.counts.reconciliation for result in (first, again, later)} == {"match"}
    after = raw_rows(warehouse, "redemptions", "raw_marketing")
    assert len(set(after) - set(before)) == 6
    assert set(before) <= set(after)
    assert landing_tables(warehouse) == []


async def test_the_payload_in_raw_is_the_record_that_the_api_sent(warehouse: TestDatabase, commerce: Commerce) -> None:
    set_day(commerce.state, 1)
    await load(warehouse, commerce.url, "campaigns")

    async with httpx.AsyncClient(headers={"X-API-Key": KEY}) as client:
        while (sent := await client.get(f"{commerce.url}/v1/campaigns", params={"limit": 500})).status_code == 503:
            pass
    held = rows(warehouse, "select id, payload, updated_at from raw_marketing.campaigns order by id")

    records = sorted(sent.json()["data"], key=lambda record: record["id"])
    assert [row["payload"] for row in held] == records
    assert [row["id"] for row in held] == [record["id"] for record in records]
    assert all(row["updated_at"].isoformat().replace("+00:00", "Z") == row["payload"]["updated_at"] for row in held)


async def test_a_wrong_key_is_a_matter_of_configuration_and_is_not_quoted(
    warehouse: TestDatabase, commerce: Commerce
) -> None:
    connection = ApiConnection("marketing", commerce.url, "wrong-key-1234")

    with pytest.raises(ConfigurationError) as caught:
        await load_table(at(warehouse, "loader"), connection, marketing, marketing.table("campaigns"))

    assert "wrong-key-1234" not in str(caught.value)
    assert not caught.value.retryable
    assert [entry["status"] for entry in loads(warehouse)] == ["failed"]


# -- records that jsonb cannot hold


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        ("payload_holds_nul", rb'{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "name": "a\u0000b"}'),
        ("payload_holds_lone_surrogate", rb'{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "name": "a\ud800b"}'),
        ("payload_holds_lone_surrogate", rb'{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "name": "a\uDC00\uD800"}'),
        ("payload_not_utf8", b'{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "name": "a\xff\xfeb"}'),
        (
            "payload_not_utf8",
            '{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "x": "\ufffd", "y": "'.encode() + b'\xc3"}',
        ),
        ("payload_number_too_large", b'{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "price": 1e400000}'),
    ],
)
async def test_a_record_that_jsonb_cannot_hold_goes_to_quarantine_and_the_others_on(
    warehouse: TestDatabase, rule: str, record: bytes
) -> None:
    """A number that is too large is told by PostgreSQL, and costs a second look at the pages of its group."""
    good = json.dumps(item(1)).encode()
    again = [page(good, record)] if rule == "payload_number_too_large" else []

    result = await load_items(warehouse, page(good, record), *again, page(good, total=2))

    assert (result.counts.rows_read, result.counts.rows_inserted, result.counts.rows_quarantined) == (2, 1, 1)
    assert result.counts.reconciliation == "match"
    (kept,) = open_quarantine(warehouse)
    assert (kept["rule"], kept["row_key"]) == (rule, {"id": 2})
    assert kept["row_data"]["text"].startswith('{"id": 2')
    assert rows(warehouse, "select id from raw_marketing.items") == [{"id": 1}]


@pytest.mark.parametrize("text", [r"a\\u0000b", r"a\ud83d\ude00b", r"\\ud800", "9e99999999", "\ufffd"], ids=str.encode)
async def test_a_record_that_only_looks_like_one_of_those_is_kept(warehouse: TestDatabase, text: str) -> None:
    record = f'{{"id": 1, "updated_at": "2017-03-03T00:00:00Z", "name": "{text}"}}'

    result = await load_items(warehouse, page(record.encode()), page(record.encode()))

    assert (result.counts.rows_inserted, result.counts.rows_quarantined) == (1, 0)
    assert rows(warehouse, "select payload from raw_marketing.items") == [{"payload": json.loads(record)}]


async def test_an_unreadable_record_counts_as_held_until_it_is_mended(warehouse: TestDatabase) -> None:
    """Otherwise every other load would read the whole endpoint again, in search of a row that is not missing."""
    good = json.dumps(item(1)).encode()
    bad = rb'{"id": 2, "updated_at": "2017-03-03T00:00:00Z", "name": "\u0000"}'
    await load_items(warehouse, page(good, bad), page(good, total=2))

    second = await load_items(warehouse, page(good, bad), page(good, total=2))
    third = await load_items(warehouse, page(json.dumps(item(2, name="mended")).encode()), page(good, total=2))

    assert (second.strategy, second.counts.changed, second.counts.reconciliation) == ("merge", 0, "match")
    assert (third.strategy, third.counts.rows_inserted, third.counts.reconciliation) == ("merge", 1, "match")
    assert open_quarantine(warehouse) == []


async def test_records_without_an_id_or_an_update_time_go_to_quarantine_one_by_one(warehouse: TestDatabase) -> None:
    records = [item(1), item(None, n=1), {"n": 2, "updated_at": "2017-03-03T00:00:00Z"}, item("x7"), {"id": 5}, item(6)]
    tiny, *_ = records

    result = await load_items(warehouse, json_page([*records, item(7), item(8)], total=8), json_page([tiny], total=8))

    assert (result.counts.rows_inserted, result.counts.rows_quarantined) == (4, 4)
    assert result.counts.reconciliation == "match"
    assert [row["rule"] for row in open_quarantine(warehouse)].count("key_present") == 3
    assert [row["id"] for row in rows(warehouse, "select id from raw_marketing.items order by id")] == [1, 6, 7, 8]


async def test_more_bad_records_than_declared_stop_the_load_and_nothing_is_published(
    warehouse: TestDatabase,
) -> None:
    records = [item(1), item(None, n=1), item(None, n=2), item(None, n=3)]

    with pytest.raises(DataRefused, match=r"3 of 4 rows break a rule \(key_present: 3\), 2 are tolerated"):
        await load_items(warehouse, json_page(records, total=4), json_page(records[:1], total=4))

    assert rows(warehouse, "select to_regclass('raw_marketing.items') as raw") == [{"raw": None}]
    assert open_quarantine(warehouse) == []
    assert [entry["status"] for entry in loads(warehouse)] == ["refused"]


async def test_a_record_that_stands_on_two_pages_is_loaded_once(warehouse: TestDatabase) -> None:
    older, newer = item(1, n=1), {**item(1, n=2), "updated_at": "2017-03-04T00:00:00Z"}

    result = await load_items(
        warehouse,
        json_page([newer, item(2)], following="/v1/items?page=2", total=2),
        json_page([older], total=2),
        json_page([item(2)], total=2),
    )

    assert (result.counts.rows_inserted, result.counts.rows_deduplicated) == (2, 1)
    assert rows(warehouse, "select payload -> 'n' as n from raw_marketing.items where id = 1") == [{"n": 2}]


# -- counts, cursors, limits


async def test_a_count_that_differs_shows_and_the_next_load_reads_everything_again(warehouse: TestDatabase) -> None:
    counted = json_page([item(1)], total=3)
    first = await load_items(
        warehouse, json_page([item(1)], total=1), counted, *[json_page([item(1)], total=1)] * 2, counted
    )
    async with serve(json_page([item(n) for n in (1, 2, 3)], total=3), json_page([item(1)], total=3)) as server:
        second = await load(warehouse, server.url, "items", ITEMS)

    assert (first.counts.reconciliation, first.counts.source_rows, first.counts.raw_rows) == ("missing", 3, 1)
    assert "updated_since" not in server.targets[0]
    assert (second.strategy, second.counts.rows_inserted, second.counts.reconciliation) == ("reload", 2, "match")


async def test_what_changed_is_asked_for_from_the_last_cursor_less_its_lag(warehouse: TestDatabase) -> None:
    await load_items(warehouse, json_page([item(1)], total=1), json_page([item(1)], total=1))

    async with serve(json_page([], total=0), json_page([item(1)], total=1)) as server:
        result = await load(warehouse, server.url, "items", ITEMS)

    assert "updated_since=2017-03-02T23%3A50%3A00Z" in server.targets[0]
    assert (result.counts.rows_read, result.counts.reconciliation) == (0, "match")
    assert loads(warehouse)[-1]["window_lower"] == "2017-03-02T23:50:00Z"


async def test_a_record_stamped_in_the_future_does_not_carry_the_cursor_past_now(warehouse: TestDatabase) -> None:
    future = {"id": 1, "updated_at": "2999-01-01T00:00:00Z"}

    result = await load_items(warehouse, json_page([future], total=1), json_page([future], total=1))

    assert result.upper is not None
    assert result.upper < "2999"


async def test_an_api_that_asks_for_more_patience_than_the_run_has_is_gone_on_with_later(
    warehouse: TestDatabase,
) -> None:
    with setting(api_wait_budget_seconds=1), pytest.raises(RateLimited) as caught:
        await load_items(
            warehouse,
            json_page([item(1)], following="/v1/items?page=2", total=2),
            forever=status(429, "Retry-After: 3600"),
        )

    assert caught.value.retry_after == 3600
    assert rows(warehouse, "select cursor_value from ops.cursors") == [], "the list has not been read to its end"
    later = await load_items(warehouse, json_page([item(2)], total=2), json_page([item(2)], total=2))
    assert (later.counts.rows_read, later.counts.reconciliation) == (1, "match")
    assert [load["status"] for load in loads(warehouse)] == ["published", "rescheduled", "published"]
    (error,) = rows(warehouse, "select * from ops.errors")
    assert (error["failure_class"], error["location"]) == ("transient", "marketing.items (page 2)")
    assert "alice@example.com" not in str(error)
