"""What an API says beside its answers about how much more it will bear, and what we allow ourselves."""

import time
from dataclasses import replace

import httpx
import pytest

from flows.kinds.api import Rate
from flows.kinds.api.http.pace import Pace
from flows.kinds.api.http.quota import pause_asked
from flows.values.errors import DeclarationError, RateLimited
from tests.kinds.api.http_servers import json_page, serve, status
from tests.kinds.api.rest_reading import ITEMS, QUICK, api, read, values

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
MIDNIGHT = 1767225600


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(MIDNIGHT + 40), "Date": DATE}, 40),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": str(MIDNIGHT + 40), "Date": DATE}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(MIDNIGHT - 40), "Date": DATE}, 0),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "17"}, 17),
        ({"RateLimit": '"default";r=0;t=30', "RateLimit-Policy": '"default";q=100;w=30'}, 30),
        ({"RateLimit": '"default";r=50;t=30'}, 0),
        ({"RateLimit": "limit=100, remaining=0, reset=12"}, 12),
        ({"X-Shopify-Shop-Api-Call-Limit": "39/40"}, 0),
        ({"X-Shopify-Shop-Api-Call-Limit": "40/40"}, 0.5),
        ({"Backoff": "9"}, 9),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{MIDNIGHT + 40}000", "Date": DATE}, 40),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{MIDNIGHT + 40}000000", "Date": DATE}, 40),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2026-01-01T00:00:40Z", "Date": DATE}, 40),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "Thu, 01 Jan 2026 00:00:40 GMT", "Date": DATE}, 40),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1m40s"}, 100),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "250ms"}, 0.25),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.5"}, 1.5),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-Ms": "1500"}, 1.5),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-Ms": f"{MIDNIGHT + 40}000", "Date": DATE}, 40),
        ({"X-RateLimit-Remaining": "none", "X-RateLimit-Reset": "soon", "Backoff": "-1", "RateLimit": "r=0"}, 0),
    ],
)
def test_quota_headers_are_read_in_their_several_spellings(headers: dict[str, str], seconds: float) -> None:
    assert pause_asked(httpx.Headers(headers)) == seconds


async def test_a_used_up_quota_is_waited_out_before_the_next_page() -> None:
    async with serve(
        json_page([1], "RateLimit-Remaining: 0", "RateLimit-Reset: 0.3", following="?p=2"), json_page([2])
    ) as server:
        assert values(await read(server.url, declared=api(name="quota"))) == [1, 2]
    assert server.requests[1].at - server.requests[0].at >= 0.3


async def test_a_quota_beyond_the_runs_budget_ends_the_read_behind_the_page_that_came() -> None:
    limits = replace(QUICK, wait_budget_seconds=1)
    waits: list[float] = []
    async with serve(
        json_page([1], "RateLimit-Remaining: 0", "RateLimit-Reset: 900", following="?p=2"), json_page([2])
    ) as server:
        with pytest.raises(RateLimited, match="quota is used up") as caught:
            await read(
                server.url, declared=api(name="spent"), limits=limits, on_wait=lambda _, wait: waits.append(wait)
            )
    assert 890 < caught.value.retry_after <= 900
    assert (len(server.requests), waits) == (1, [])


async def test_a_429_that_names_its_reset_is_obeyed_without_retry_after() -> None:
    async with serve(
        status(429, "X-RateLimit-Remaining: 0", f"X-RateLimit-Reset: {MIDNIGHT + 1}", f"Date: {DATE}"), json_page([1])
    ) as server:
        began = time.monotonic()
        assert values(await read(server.url, declared=api(name="reset"))) == [1]
    assert time.monotonic() - began >= 1


async def test_one_endpoints_pause_does_not_stop_another_one() -> None:
    """Quotas are often those of an endpoint: the others are read on meanwhile."""
    other = replace(ITEMS, name="others", path="/v1/others")
    declared = replace(api(name="pauses"), endpoints=[ITEMS, other])
    limits = replace(QUICK, wait_budget_seconds=1)
    async with serve(
        json_page([1], "RateLimit-Remaining: 0", "RateLimit-Reset: 900", following="?p=2"), json_page([3])
    ) as server:
        with pytest.raises(RateLimited):
            await read(server.url, declared=declared, limits=limits)
        assert values(await read(server.url, other, declared, limits=limits)) == [3]


@pytest.mark.parametrize("header", ["Retry-After: 31536000", "X-RateLimit-Reset: 4102444800000"])
async def test_a_wait_above_the_ceiling_is_reported_as_such(header: str) -> None:
    """Whatever the wait is said to be, the load is tried again after a day."""
    name = f"ceiling{len(header)}"
    async with serve(status(429, "X-RateLimit-Remaining: 0", header)) as server:
        with pytest.raises(RateLimited, match=r"requests a wait of [0-9,]+ h, and the ceiling is 24 h") as caught:
            await read(server.url, declared=api(name=name), limits=replace(QUICK, wait_budget_seconds=1e9))
    assert caught.value.retry_after == 86_400


async def test_milliseconds_beside_retry_after_are_obeyed() -> None:
    async with serve(status(429, "Retry-After-Ms: 120", "Retry-After: 1"), json_page([1])) as server:
        assert values(await read(server.url, declared=api(name="ms"))) == [1]
    assert 0.12 <= server.requests[1].at - server.requests[0].at < 1


def test_records_are_paid_for_after_they_came() -> None:
    pace = Pace(record_rate=100)
    assert pace.reserve(time.monotonic()) == 0
    pace.took(50)
    assert pace.reserve(time.monotonic()) == pytest.approx(0.5, abs=0.05)


async def test_a_rate_of_records_spreads_pages_over_its_window() -> None:
    declared = replace(api(name="by_records"), rate=Rate(records=600, per="1 min"))
    async with serve(json_page([1, 2, 3], following="?p=2"), json_page([4])) as server:
        await read(server.url, ITEMS, declared)
    assert server.requests[1].at - server.requests[0].at >= 0.29


@pytest.mark.parametrize("rate", [{}, {"requests": 0}, {"records": -1}, {"requests": 1, "per": "0 s"}])
def test_a_rate_that_allows_nothing_is_refused(rate: dict[str, object]) -> None:
    with pytest.raises(DeclarationError, match="rate"):
        Rate(**rate)  # type: ignore[arg-type]
