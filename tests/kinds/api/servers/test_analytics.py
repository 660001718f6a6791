"""GA4's runReport, as documented, into raw: paging in a POST body, and tokens from another origin."""

import json
from collections import Counter

import pytest

from flows.publish.session import LoadResult
from flows.values.errors import ConfigurationError
from tests.conftest import TestDatabase
from tests.kinds.api.servers import declared
from tests.kinds.api.servers.analytics import Analytics, visit
from tests.kinds.api.servers.imitation import refuse
from tests.kinds.api.servers.oauth import CLIENT_ID, CLIENT_SECRET
from tests.kinds.api.servers.reading import load
from tests.kinds.loading import rows

COUNTRIES = ("AT", "BE", "CH", "DE", "ES")


async def load_daily(warehouse: TestDatabase, analytics: Analytics, secret: str = CLIENT_SECRET) -> LoadResult:
    api = declared.analytics(analytics.tokens.address)
    return await load(warehouse, api, analytics.url, "daily", secret, CLIENT_ID)


def report(warehouse: TestDatabase) -> dict[tuple[str, str], int]:
    """Sessions by day and country, as raw has them."""
    query = (
        "select date, country, (payload #>> '{metricValues,0,value}')::int as sessions from raw_analytics.daily "
        "where _deleted_at is null"
    )
    return {(row["date"], row["country"]): row["sessions"] for row in rows(warehouse, query)}


def truth(analytics: Analytics) -> dict[tuple[str, str], int]:
    """Sessions by day and country, as the property has them."""
    sums: Counter[tuple[str, str]] = Counter()
    for event in analytics.events:
        sums[event["date"], event["country"]] += event["sessions"]
    return dict(sums)


def filled(analytics: Analytics) -> None:
    analytics.events += [visit(day, country, day) for day in range(1, 12) for country in COUNTRIES]


async def test_every_row_of_the_report_comes_once_and_later_days_follow(
    warehouse: TestDatabase, analytics: Analytics
) -> None:
    filled(analytics)
    first = await load_daily(warehouse, analytics)
    analytics.events += [visit(11, "AT", 5), visit(12, "AT", 1)]
    analytics.begin()
    second = await load_daily(warehouse, analytics)

    assert first.counts.rows_inserted == 55
    assert report(warehouse) == truth(analytics)
    assert (second.counts.rows_inserted, second.counts.rows_updated) == (1, 1)
    assert json.loads(analytics.asked[0].body)["dateRanges"][0]["startDate"] == "2024-01-11"


async def test_a_report_without_rows_is_empty_and_no_error(warehouse: TestDatabase, analytics: Analytics) -> None:
    first = await load_daily(warehouse, analytics)
    filled(analytics)
    await load_daily(warehouse, analytics)

    assert first.counts.rows_read == 0
    assert report(warehouse) == truth(analytics)


async def test_a_token_revoked_in_the_middle_is_renewed_once_for_all_pages_under_way(
    warehouse: TestDatabase, analytics: Analytics
) -> None:
    filled(analytics)
    analytics.latency = 0.05  # so that pages are under way together
    analytics.before[3] = analytics.tokens.revoke
    try:
        await load_daily(warehouse, analytics)
    finally:
        analytics.latency = 0.0

    assert report(warehouse) == truth(analytics)
    assert len(analytics.tokens.asked) == 2


async def test_a_token_is_renewed_ahead_of_its_end(warehouse: TestDatabase, analytics: Analytics) -> None:
    filled(analytics)
    analytics.tokens.lifetime = 1.0
    analytics.latency = 0.25
    try:
        await load_daily(warehouse, analytics)
    finally:
        analytics.latency = 0.0

    assert report(warehouse) == truth(analytics)
    assert len(analytics.tokens.asked) >= 2
    assert 401 not in analytics.statuses


async def test_the_secret_goes_to_the_token_endpoint_alone(warehouse: TestDatabase, analytics: Analytics) -> None:
    filled(analytics)
    await load_daily(warehouse, analytics)

    assert CLIENT_SECRET in str(analytics.tokens.asked)
    assert CLIENT_SECRET not in str(analytics.asked)


async def test_a_wrong_secret_asks_for_a_person_and_is_not_repeated(
    warehouse: TestDatabase, analytics: Analytics
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await load_daily(warehouse, analytics, "canary-wrong-secret")

    assert "canary" not in str(caught.value)
    assert analytics.asked == []
    assert len(analytics.tokens.asked) == 1


async def test_an_exhausted_quota_is_waited_for(warehouse: TestDatabase, analytics: Analytics) -> None:
    """Google sends no Retry-After with it."""
    filled(analytics)
    analytics.trouble[3] = refuse(429, body=b'{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}')
    await load_daily(warehouse, analytics)

    assert report(warehouse) == truth(analytics)
