"""Answers that refuse, or ask for patience."""

import asyncio
import logging
import pickle
import socket
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from flows.kinds.api.declared.sent import ApiKeyHeader, ApiKeyQuery, NoAuth
from flows.kinds.api.http.failure import retry_after
from flows.kinds.api.pages.endpoint import read_pages
from flows.values.errors import ConfigurationError, MedallionError, RateLimited, SourceError, SourceUnavailable
from tests.kinds.api.http_servers import Answer, json_page, serve, status
from tests.kinds.api.rest_reading import ITEMS, KEY, QUICK, api, connection, read, values


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 522])
async def test_a_passing_failure_is_tried_again(code: int) -> None:
    waits: list[tuple[str, float]] = []
    async with serve(json_page([1], following="?p=2"), status(code), status(code), json_page([2])) as server:
        pages = await read(server.url, on_wait=lambda reason, seconds: waits.append((reason, seconds)))
    assert values(pages) == [1, 2]
    assert [reason for reason, _ in waits] == [f"marketing.items (page 2): {code} from GET /v1/items"] * 2
    assert all(0 < seconds <= QUICK.backoff_cap_seconds for _, seconds in waits)


async def test_pauses_grow_and_differ_from_run_to_run() -> None:
    limits = replace(QUICK, max_attempts=5, backoff_seconds=0.004, backoff_cap_seconds=0.016)
    runs = []
    for _ in range(3):
        waits: list[float] = []

        def note(_: str, seconds: float, seen: list[float] = waits) -> None:
            seen.append(seconds)

        async with serve(forever=status(500)) as server:
            with pytest.raises(SourceUnavailable):
                await read(server.url, limits=limits, on_wait=note)
        runs.append(waits)
        for wait, longest in zip(waits, [0.004, 0.008, 0.016, 0.016], strict=True):
            assert longest / 2 <= wait <= longest
    assert runs[0] != runs[1] or runs[1] != runs[2]


async def test_failures_of_earlier_pages_do_not_count_against_later_ones() -> None:
    async with serve(
        status(503), status(503), json_page([1], following="?p=2"), status(503), status(503), json_page([2])
    ) as server:
        assert values(await read(server.url)) == [1, 2]


async def test_a_failure_that_stays_says_what_where_and_what_next() -> None:
    async with serve(forever=status(503)) as server:
        with pytest.raises(SourceUnavailable) as failure:
            await read(server.url)
    assert str(failure.value) == (
        "marketing.items: 503 from GET /v1/items, after 3 attempts; fix: "
        "the API is overloaded or down: run again later, or ask its operator; retryable: yes"
    )


@pytest.mark.parametrize(
    ("code", "move"),
    [
        (400, "check params, page size and cursor in flows/sources/marketing.py"),
        (404, "check the path in flows/sources/marketing.py and the base URL in MEDALLION_SOURCE_MARKETING_URL"),
        (405, "check the method and path declared in flows/sources/marketing.py"),
        (422, "check params"),
        (418, "documentation"),
        (501, "documentation"),
        (206, "documentation"),
        (204, "no body"),
    ],
)
async def test_a_lasting_refusal_is_asked_once_and_names_the_next_move(code: int, move: str) -> None:
    async with serve(status(code)) as server:
        with pytest.raises(SourceError) as failure:
            await read(server.url)
    assert f"{code} from GET /v1/items" in str(failure.value)
    assert move in str(failure.value)
    assert "retryable: no" in str(failure.value)
    assert not isinstance(failure.value, SourceUnavailable)


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refused_key_names_the_variable_that_holds_it_and_never_the_key(code: int) -> None:
    async with serve(json_page([1], following="?p=2"), status(code)) as server:
        with pytest.raises(ConfigurationError) as failure:
            await read(server.url)
    assert "MEDALLION_SOURCE_MARKETING_KEY" in str(failure.value)
    assert f"{code} from GET /v1/items" in str(failure.value)
    assert KEY not in str(failure.value)


async def test_a_missing_declaration_of_auth_is_told_as_such() -> None:
    async with serve(status(401)) as server:
        with pytest.raises(ConfigurationError, match="add auth= and set MEDALLION_SOURCE_MARKETING_KEY"):
            await read(server.url, declared=api(auth=NoAuth()))


async def test_an_expired_page_sends_the_next_run_to_the_published_cursor() -> None:
    async with serve(json_page([1], following="?p=2"), status(410)) as server:
        with pytest.raises(SourceUnavailable, match="starts from the last published cursor"):
            await read(server.url)


async def test_retry_after_is_obeyed_in_full() -> None:
    waits: list[float] = []
    async with serve(status(429, "Retry-After: 1"), json_page([1])) as server:
        assert values(await read(server.url, on_wait=lambda _, seconds: waits.append(seconds))) == [1]
    assert waits == [1.0]
    assert server.requests[1].at - server.requests[0].at >= 1.0


@pytest.mark.parametrize("code", [429, 503, 403, 500])
async def test_patience_beyond_the_budget_is_handed_back_with_the_time(code: int) -> None:
    async with serve(status(code, "Retry-After: 3600")) as server:
        with pytest.raises(RateLimited) as limited:
            await read(server.url)
    assert limited.value.retry_after == 3600
    assert limited.value.retryable
    assert "run again in 3600 s" in str(limited.value)
    copied: MedallionError = pickle.loads(pickle.dumps(limited.value))  # noqa: S301
    assert isinstance(copied, RateLimited)
    assert copied.retry_after == 3600


async def test_pages_before_the_limit_are_handed_over() -> None:
    """What was read before the API asked for patience can be published; the next run goes on from there."""
    async with (
        serve(json_page([1], following="?p=2"), status(429, "Retry-After: 3600")) as server,
        aclosing(read_pages(api(), ITEMS, connection(server.url), limits=QUICK)) as pages,
    ):
        first = await anext(pages)
        with pytest.raises(RateLimited):
            await anext(pages)
    assert first.records == [b"1"]


async def test_waits_add_up_against_one_budget_for_the_whole_read() -> None:
    limits = replace(QUICK, wait_budget_seconds=0.05)
    answers: list[Answer] = []
    for number in range(1, 30):
        answers += [status(429, "Retry-After: 0.02"), json_page([number], following=f"?p={number}")]
    async with serve(*answers) as server:
        with pytest.raises(RateLimited):
            await read(server.url, limits=limits)
    assert len(server.requests) == 5, "two waits of 0.02 s fit into 0.05 s, the third does not"


async def test_a_server_that_always_says_at_once_is_not_asked_in_a_hot_loop() -> None:
    limits = replace(QUICK, wait_budget_seconds=0.1, backoff_cap_seconds=1)
    async with serve(forever=status(429, "Retry-After: 0")) as server:
        with pytest.raises(RateLimited):
            await read(server.url, limits=limits)
    assert len(server.requests) < 12


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 37.0),
        ("Sun Nov  6 08:49:37 1994", 37.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("9" * 5000, None),
        ("Sun, 99 Nov 1994 99:00:00 GMT", None),
        ("١٢", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_by_the_servers_own_clock(
    value: str, seconds: float | None
) -> None:
    headers = httpx.Headers({"date": "Sun, 06 Nov 1994 08:49:00 GMT"})
    headers["retry-after"] = value
    assert retry_after(headers) == seconds


def test_a_date_without_a_servers_clock_is_measured_by_ours() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    wait = retry_after(httpx.Headers({"retry-after": format_datetime(soon, usegmt=True)}))
    assert wait is not None
    assert 97 < wait <= 100


async def test_a_host_that_does_not_answer_names_the_variable_with_its_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(SourceUnavailable, match=r"no connection for GET /v1/items \(ConnectError\), after 3 attempts"):
        await read(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("auth", [ApiKeyHeader(), ApiKeyQuery("token")])
@pytest.mark.parametrize(
    "fault",
    [status(401), status(404), status(500), status(302, "Location: http://127.0.0.2/"), json_page(["x"], "Link: <")],
)
async def test_the_key_reaches_no_log_and_no_exception(
    auth: ApiKeyHeader | ApiKeyQuery,
    fault: Answer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """httpx logs every address at INFO and keeps the request on its exceptions: neither ever holds the key."""
    for name in ("", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
        # By whoever configured logging before.
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    limits = replace(QUICK, max_attempts=2)
    async with serve(forever=fault) as server:
        with pytest.raises(MedallionError) as failure:
            await read(server.url, declared=api(auth=auth), limits=limits)
    assert KEY in server.targets[0] + str(server.requests[0].headers), "the server must have been given the key"
    assert "HTTP Request: GET" in caplog.text
    assert KEY not in caplog.text
    seen: BaseException | None = failure.value
    while seen is not None:
        assert KEY not in repr(seen) + str(vars(seen))
        seen = seen.__cause__ or seen.__context__


async def test_a_cancelled_read_stops_at_once() -> None:
    async with serve(status(429, "Retry-After: 4")) as server:
        reading = asyncio.create_task(read(server.url))
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert len(server.requests) == 1
