"""Answers that say 200 and are not what they seem.

Each of these is taken for data by a client that trusts the status: httpx raises nothing for most of them.
"""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from flows.kinds.api.http.body import read_body
from flows.kinds.api.http.failure import AttemptFailed
from flows.values.errors import SourceError, SourceUnavailable
from tests.kinds.api.http_servers import (
    Answer,
    chunked,
    drip,
    head,
    json_page,
    raw,
    reset_after,
    response,
    serve,
    silence,
)
from tests.kinds.api.rest_reading import ITEMS, QUICK, read, values

WHOLE = b'{"data": [{"id": 1}, {"id": 2}], "meta": {"total": 2}}'
ZIPPED = gzip.compress(WHOLE)
GZIP = "Content-Encoding: gzip"
HTML = b"<html><body>We are back in a minute</body></html>"


def cut_gzip(at: int) -> Answer:
    return raw(response(200, ZIPPED[:at], GZIP))


BROKEN_ONCE = {
    "a body shorter than its Content-Length": raw(head(f"Content-Length: {len(WHOLE)}") + WHOLE[:20], close=True),
    "a Content-Length shorter than the body": raw(head("Content-Length: 20") + WHOLE, close=True),
    "a body ended by the close, cut": raw(head("Connection: close") + WHOLE[:20], close=True),
    "no body at all, ended by the close": raw(head("Connection: close"), close=True),
    "a length of nothing": raw(response(200, b"")),
    "a chunked body without its last chunk": raw(
        head("Transfer-Encoding: chunked") + chunked(WHOLE, end=False), close=True
    ),
    "a chunked body cut inside a chunk": raw(head("Transfer-Encoding: chunked") + b"40\r\n" + WHOLE[:9], close=True),
    "a gzip stream without its end": cut_gzip(-12),
    "a gzip stream without its checksum": cut_gzip(-8),
    "a gzip stream of nothing": cut_gzip(0),
    "a gzip stream cut by the close": raw(head("Connection: close", GZIP) + ZIPPED[:-9], close=True),
    "a gzip stream with a wrong checksum": raw(response(200, ZIPPED[:-8] + b"\0" * 8, GZIP)),
    "bytes behind the gzip stream": raw(response(200, ZIPPED + b"junk", GZIP)),
    "a body that is not gzip as announced": raw(response(200, WHOLE, GZIP)),
    "JSON that stops in the middle": raw(response(200, WHOLE[:-1])),
    "JSON with something behind it": raw(response(200, WHOLE + b"x")),
    "HTML with status 200": raw(response(200, HTML, content_type="text/html; charset=utf-8")),
    "HTML announced as JSON": raw(response(200, HTML)),
    "a reset before the answer": reset_after(b""),
    "a reset inside the headers": reset_after(b"HTTP/1.1 200 OK\r\nContent-"),
    "a reset inside the body": reset_after(head(f"Content-Length: {len(WHOLE)}") + WHOLE[:20]),
    "a close instead of an answer": raw(close=True),
    "something that is not HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close=True),
}


@pytest.mark.parametrize("fault", BROKEN_ONCE.values(), ids=BROKEN_ONCE.keys())
async def test_a_broken_page_is_read_again_and_nothing_is_lost_or_doubled(fault: Answer) -> None:
    second = json_page([{"id": 3}])
    first = raw(response(200, WHOLE, 'Link: <?p=2>; rel="next"'))
    async with serve(first, fault, second) as server:
        pages = await read(server.url, replace(ITEMS, total=None))
    assert values(pages) == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert server.targets == ["/v1/items", "/v1/items?p=2", "/v1/items?p=2"]


@pytest.mark.parametrize("fault", BROKEN_ONCE.values(), ids=BROKEN_ONCE.keys())
async def test_a_page_that_stays_broken_is_an_error_and_never_zero_records(fault: Answer) -> None:
    async with serve(forever=fault) as server:
        with pytest.raises(SourceError) as failure:
            await read(server.url)
    assert len(server.requests) == QUICK.max_attempts
    message = str(failure.value)
    assert message.startswith("marketing.items: ")
    assert "after 3 attempts" in message
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None, "an inner exception may quote what must not be logged"


@pytest.mark.parametrize(
    "answer",
    [
        raw(head("Transfer-Encoding: chunked") + chunked(WHOLE[:7], WHOLE[7:])),
        raw(head("Transfer-Encoding: chunked", GZIP) + chunked(*(ZIPPED[at : at + 1] for at in range(len(ZIPPED))))),
        raw(head("Connection: close") + WHOLE, close=True),
        raw(head("Connection: close", GZIP) + ZIPPED, close=True),
        raw(response(200, ZIPPED, "Content-Encoding: X-GZIP")),
        raw(response(200, gzip.compress(WHOLE[:9]) + gzip.compress(b"") + gzip.compress(WHOLE[9:]), GZIP)),
        raw(response(200, WHOLE, content_type='application/vnd.api+json; charset="UTF-8"; profile=x')),
        raw(b"HTTP/1.0 200 OK\r\ncontent-type: APPLICATION/JSON\r\n\r\n" + WHOLE, close=True),
    ],
    ids=["chunked", "chunked gzip", "closed", "closed gzip", "x-gzip", "gzip members", "vendor type", "HTTP/1.0"],
)
async def test_a_whole_body_is_accepted_however_its_end_is_told(answer: Answer) -> None:
    async with serve(answer) as server:
        assert values(await read(server.url)) == [{"id": 1}, {"id": 2}]


class Pieces(httpx.AsyncByteStream):
    """A transport that hands over what it has and does not count."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@pytest.mark.parametrize("length", [len(WHOLE) - 1, len(WHOLE) + 1])
async def test_a_length_that_the_transport_did_not_check_is_checked_here(length: int) -> None:
    headers = {"content-type": "application/json", "content-length": str(length)}
    with pytest.raises(AttemptFailed, match=f"{len(WHOLE)} of {length} announced bytes were received"):
        await read_body(httpx.Response(200, headers=headers, stream=Pieces(WHOLE[:9], WHOLE[9:])), cap=1 << 20)


async def test_received_bytes_are_those_of_the_wire() -> None:
    async with serve(raw(response(200, ZIPPED, GZIP))) as server:
        pages = await read(server.url)
    assert pages[0].received_bytes == len(ZIPPED)
    assert server.requests[0].headers["accept-encoding"] == "gzip"


async def test_a_decompression_bomb_meets_a_cap_and_is_not_tried_again() -> None:
    bomb = gzip.compress(b'{"data": ["' + b" " * (50 << 20) + b'"]}')
    assert len(bomb) < 60_000
    tracemalloc.start()
    async with serve(raw(response(200, bomb, GZIP))) as server:
        with pytest.raises(SourceError, match=r"larger than 1 MB after decoding.*smaller page_size"):
            await read(server.url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20, "the cap holds while decompressing, not after it"


@pytest.mark.parametrize(
    "answer",
    [
        raw(head("Content-Length: 99000000000") + b'{"data": ['),
        raw(head("Transfer-Encoding: chunked") + chunked(*[b" " * 65536] * 20), close=True),
    ],
    ids=["announced", "not announced"],
)
async def test_a_body_without_bound_meets_the_cap(answer: Answer) -> None:
    async with serve(answer) as server:
        with pytest.raises(SourceError, match="larger than 1 MB"):
            await read(server.url)


async def test_a_slow_drip_is_ended_by_the_deadline() -> None:
    """Every byte comes well within the read timeout, which therefore never fires."""
    slow = drip(head(f"Content-Length: {len(WHOLE)}"), WHOLE, every=0.02)
    limits = replace(QUICK, request_seconds=0.25, read_seconds=0.2)
    async with serve(slow, raw(response(200, WHOLE))) as server:
        began = time.monotonic()
        pages = await read(server.url, limits=limits)
        assert time.monotonic() - began < 0.8
    assert values(pages) == [{"id": 1}, {"id": 2}]
    assert server.connections == 2


async def test_a_drip_of_headers_is_ended_too() -> None:
    slow = drip(b"", b"HTTP/1.1 200 OK\r\nX-Padding: " + b"a" * 200, every=0.02)
    limits = replace(QUICK, request_seconds=0.2, max_attempts=1)
    async with serve(slow) as server:
        with pytest.raises(SourceUnavailable, match=r"GET /v1/items was not answered completely within 0\.2 s"):
            await read(server.url, limits=limits)


async def test_silence_is_ended_by_the_read_timeout() -> None:
    limits = replace(QUICK, read_seconds=0.1, max_attempts=1)
    async with serve(silence()) as server:
        with pytest.raises(SourceUnavailable, match="ReadTimeout"):
            await read(server.url, limits=limits)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"items": [], "n": 1}', "there is no 'data' in the object of list, number at the root"),
        (b'{"data": {"alice@example.com": 1}}', "the object of number at 'data' is not a list"),
        (b'{"data": null}', "the null at 'data' is not a list"),
        (b'{"data": "alice@example.com"}', "the text at 'data' is not a list"),
        (b"{}", "there is no 'data' in the empty object at the root"),
        (b'[{"id": 1}]', "there is no 'data' in the list at the root"),
        (b'{"data": [], "meta": {}}', "there is no 'total' in the empty object at 'meta'"),
        (b'{"data": [], "meta": {"total": "12+"}}', "the text at 'meta.total' is not an integer"),
        (b'{"data": [], "meta": {"total": -1}}', "the number at 'meta.total' is negative"),
        (b'{"data": [], "meta": {"total": 1.5}}', "the number at 'meta.total' is not an integer"),
    ],
)
async def test_another_shape_is_told_by_types_and_never_by_values(body: bytes, found: str) -> None:
    async with serve(raw(response(200, body))) as server:
        with pytest.raises(SourceError) as failure:
            await read(server.url)
    assert found in str(failure.value)
    assert "alice" not in str(failure.value)
    assert not failure.value.retryable


async def test_nesting_without_end_is_an_error_of_ours() -> None:
    body = b'{"data": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}"
    async with serve(raw(response(200, body))) as server:
        with pytest.raises(SourceError, match="nested too deeply"):
            await read(server.url)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (raw(response(200, zlib.compress(WHOLE), "Content-Encoding: deflate")), "'deflate', and only gzip"),
        (raw(response(200, WHOLE, content_type="application/json; charset=utf-16")), "'utf-16'"),
    ],
)
async def test_an_encoding_nobody_asked_for_is_refused(answer: Answer, says: str) -> None:
    async with serve(answer) as server:
        with pytest.raises(SourceError, match=says):
            await read(server.url)
