"""The API as an application, called without a network. How it runs as a process is in test_commerce_process.py."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.commerce import read_day, set_day
from demo.commerce.app import create_app
from demo.commerce.rate import TokenBucket
from demo.commerce.records import COUPON_WITH_TERMS, EXTENDED_CAMPAIGN, EXTENDED_TO
from demo.dataset import read_rows
from flows.values.errors import ConfigurationError

KEY = "a key of the test"
COUNTS = {"campaigns": 27, "campaign_targets": 6589, "coupons": 1197, "redemptions": 2102, "exchange_rates": 522}
LAST_REDEMPTIONS = 6


class StandingClock:
    """Time that passes only when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def _api(
    state: Path, *, rate: float = 1e9, burst: int = 10_000, fail_every: int = 0, clock: StandingClock | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(KEY, state, TokenBucket(rate, burst, clock or StandingClock()), fail_every)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:1", headers={"X-API-Key": KEY}
    ) as client:
        yield client


async def _walk(client: httpx.AsyncClient, path: str, **params: str | int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    response = await client.get(path, params=params)
    while True:
        assert response.status_code == 200
        records.extend(response.json()["data"])
        if "next" not in response.links:
            return records
        response = await client.get(response.links["next"]["url"])


@pytest.mark.parametrize("endpoint", COUNTS)
async def test_walking_all_pages_gives_every_record_once_in_order(tmp_path: Path, endpoint: str) -> None:
    set_day(tmp_path, 2)
    async with _api(tmp_path) as client:
        records = await _walk(client, f"/v1/{endpoint}", limit=100)
        total = (await client.get(f"/v1/{endpoint}")).json()["meta"]["total"]

    assert len({record["id"] for record in records}) == len(records) == COUNTS[endpoint] == total
    order = [(_time(record["updated_at"]), record["id"]) for record in records]
    assert order == sorted(order)


async def test_equal_times_across_a_page_edge_lose_nothing(tmp_path: Path) -> None:
    """Hundreds of targets share their campaign's start: with 7 to a page every edge but a few lies among equals."""
    async with _api(tmp_path) as client:
        records = await _walk(client, "/v1/campaign_targets", limit=7)

    targets = {
        f"{campaign}-{household}" for campaign, household in read_rows("campaigns", ["campaign_id", "household_id"])
    }
    assert len(records) == len(targets)
    assert {record["id"] for record in records} == targets
    assert len({record["updated_at"] for record in records}) < 30


async def test_records_have_the_shape_of_a_commerce_platform(tmp_path: Path) -> None:
    async with _api(tmp_path) as client:
        campaigns = await _walk(client, "/v1/campaigns")
        targets = await _walk(client, "/v1/campaign_targets", limit=500)
        coupons = await _walk(client, "/v1/coupons", limit=500)
        redemptions = await _walk(client, "/v1/redemptions", limit=500)

    assert next(record for record in campaigns if record["id"] == 1) == {
        "id": 1,
        "name": None,
        "type": "Type B",
        "period": {"starts_on": "2017-03-03", "ends_on": "2017-04-09"},
        "updated_at": "2017-03-03T00:00:00Z",
    }
    assert next(record for record in targets if record["id"] == "1-105") == {
        "id": "1-105",
        "campaign": {"id": 1},
        "household": {"id": 105},
        "updated_at": "2017-03-03T00:00:00Z",
    }
    coupon = next(record for record in coupons if record["id"] == "26-10000085207")
    assert coupon["products"][0] == {"id": 9676830}
    assert {key: value for key, value in coupon.items() if key != "products"} == {
        "id": "26-10000085207",
        "upc": "10000085207",
        "campaign": {"id": 26},
        "terms": None,
        "updated_at": "2016-12-28T00:00:00Z",
    }
    assert redemptions[0] == {
        "id": 1,
        "coupon": {"id": "26-51380041013", "upc": "51380041013"},
        "campaign": {"id": 26},
        "household": {"id": 1029},
        "redeemed_on": "2017-01-01",
        "channel": None,
        "updated_at": "2017-01-01T12:00:00Z",
    }


async def test_every_product_of_every_coupon_is_named(tmp_path: Path) -> None:
    async with _api(tmp_path) as client:
        coupons = await _walk(client, "/v1/coupons", limit=500)

    named = sorted(
        (int(coupon["upc"]), product["id"], coupon["campaign"]["id"])
        for coupon in coupons
        for product in coupon["products"]
    )
    assert named == sorted(read_rows("coupons", ["coupon_upc", "product_id", "campaign_id"]))


async def test_updated_since_gives_the_records_at_and_after_that_time(tmp_path: Path) -> None:
    async with _api(tmp_path) as client:
        everything = await _walk(client, "/v1/redemptions", limit=500)
        edge = everything[1000]["updated_at"]
        since = await _walk(client, "/v1/redemptions", limit=50, updated_since=edge)
        total = (await client.get("/v1/redemptions", params={"updated_since": edge})).json()["meta"]["total"]
        in_another_zone = await _walk(
            client, "/v1/redemptions", updated_since=_time(edge).astimezone().isoformat(), limit=500
        )

    assert since == [record for record in everything if record["updated_at"] >= edge]
    assert any(record["updated_at"] == edge for record in since)
    assert total == len(since)
    assert in_another_zone == since


async def test_day_two_shows_without_a_restart_and_updated_since_finds_it(tmp_path: Path) -> None:
    async with _api(tmp_path) as client:
        before = {endpoint: await _walk(client, f"/v1/{endpoint}", limit=500) for endpoint in COUNTS}
        newest = {endpoint: records[-1]["updated_at"] for endpoint, records in before.items()}
        set_day(tmp_path, 2)
        after = {
            endpoint: await _walk(client, f"/v1/{endpoint}", limit=500, updated_since=newest[endpoint])
            for endpoint in COUNTS
        }

    assert len(before["redemptions"]) == COUNTS["redemptions"] - LAST_REDEMPTIONS
    new = {endpoint: [record for record in after[endpoint] if record not in before[endpoint]] for endpoint in COUNTS}
    assert [record["id"] for record in new["campaigns"]] == [EXTENDED_CAMPAIGN]
    assert new["campaigns"][0]["period"]["ends_on"] == EXTENDED_TO
    assert [record["id"] for record in new["coupons"]] == [COUPON_WITH_TERMS]
    assert new["coupons"][0]["terms"] == {"min_spend": "10.00", "currency": "USD"}
    assert [record["redeemed_on"] for record in new["redemptions"]] == ["2017-12-30"] * 5 + ["2017-12-31"]
    assert new["campaign_targets"] == []
    switched = read_day(tmp_path).since
    assert {_time(record["updated_at"]) for records in new.values() for record in records} == {switched}


async def test_a_walk_that_day_two_interrupts_misses_no_record(tmp_path: Path) -> None:
    """A record that changes meanwhile moves to the end: it may be met twice, but it is never lost."""
    async with _api(tmp_path) as client:
        first = await client.get("/v1/campaigns", params={"limit": 20})
        set_day(tmp_path, 2)
        rest = await _walk(client, first.links["next"]["url"])

    records = first.json()["data"] + rest
    assert {record["id"] for record in records} == set(range(1, 28))
    assert records[-1]["id"] == EXTENDED_CAMPAIGN


@pytest.mark.parametrize("headers", [{"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"X-API-Key": KEY + " and more"}])
async def test_a_caller_without_the_key_gets_401_and_nothing_else(tmp_path: Path, headers: dict[str, str]) -> None:
    async with _api(tmp_path) as client:
        response = await client.get("/v1/campaigns", headers=headers)

    assert response.status_code == 401
    assert response.json().keys() == {"error"}
    assert KEY not in response.text


async def test_health_needs_no_key_and_counts_as_no_request(tmp_path: Path) -> None:
    async with _api(tmp_path, burst=1, rate=1) as client:
        statuses = [(await client.get("/healthz", headers={"X-API-Key": ""})).status_code for _ in range(5)]

    assert statuses == [200] * 5


async def test_beyond_the_rate_429_says_how_long_to_wait_and_waiting_helps(tmp_path: Path) -> None:
    clock = StandingClock()
    async with _api(tmp_path, rate=0.5, burst=3, clock=clock) as client:
        statuses = [(await client.get("/v1/campaigns")).status_code for _ in range(3)]
        refused = await client.get("/v1/campaigns")
        wait = int(refused.headers["Retry-After"])
        clock.now += wait
        granted = await client.get("/v1/campaigns")
        again = await client.get("/v1/campaigns")

    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert wait == 2
    assert granted.status_code == 200
    assert again.status_code == 429


async def test_a_long_pause_fills_the_bucket_no_further_than_the_burst(tmp_path: Path) -> None:
    clock = StandingClock()
    async with _api(tmp_path, rate=10, burst=2, clock=clock) as client:
        clock.now += 3600
        statuses = [(await client.get("/v1/campaigns")).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


async def test_every_so_many_requests_one_is_503_and_the_next_is_fine(tmp_path: Path) -> None:
    async with _api(tmp_path, fail_every=4) as client:
        statuses = [(await client.get("/v1/campaigns")).status_code for _ in range(9)]

    assert statuses == [200, 200, 200, 503, 200, 200, 200, 503, 200]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"limit": "0"}, "bad_limit"),
        ({"limit": "many"}, "bad_limit"),
        ({"updated_since": "yesterday"}, "bad_updated_since"),
        ({"cursor": "not of ours"}, "bad_cursor"),
        ({"cursor": "é"}, "bad_cursor"),
        ({"cursor": "WzEsIjEtMTA1Il0"}, "bad_cursor"),  # [1,"1-105"]: an id of another endpoint
    ],
)
async def test_a_parameter_that_makes_no_sense_is_400_with_the_reason(
    tmp_path: Path, params: dict[str, str], code: str
) -> None:
    async with _api(tmp_path) as client:
        response = await client.get("/v1/redemptions", params=params)

    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


async def test_a_page_holds_500_records_at_most(tmp_path: Path) -> None:
    async with _api(tmp_path) as client:
        response = await client.get("/v1/campaign_targets", params={"limit": 100_000})

    assert len(response.json()["data"]) == 500


async def test_an_endpoint_that_does_not_exist_is_404(tmp_path: Path) -> None:
    async with _api(tmp_path) as client:
        assert (await client.get("/v1/orders")).status_code == 404


def test_the_day_is_one_until_it_is_set(tmp_path: Path) -> None:
    assert read_day(tmp_path).number == 1
    moment = datetime(2018, 1, 1, tzinfo=UTC)
    assert set_day(tmp_path, 2, moment) == read_day(tmp_path)
    assert read_day(tmp_path).since == moment


def test_a_day_written_by_hand_begins_when_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "day").write_text("2")

    assert read_day(tmp_path).number == 2
    assert abs(read_day(tmp_path).since - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_day_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no day 3"):
        set_day(tmp_path, 3)
    (tmp_path / "day").write_text("tomorrow")
    with pytest.raises(ConfigurationError, match="set the day again"):
        read_day(tmp_path)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
