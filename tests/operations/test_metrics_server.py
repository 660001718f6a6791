"""The server of `/metrics`: for those who may, whatever a client does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from flows.operations import metrics_server
from flows.operations.metrics_server import MetricsServer


@asynccontextmanager
async def served(text: bytes | None = b"a 1\n", **options: Any) -> Any:
    """A server that was shown this text, and a client of it."""
    server = MetricsServer("127.0.0.1", 0, **options)
    await server.open()
    if text is not None:
        server.show(text)
    try:
        async with httpx.AsyncClient(base_url=f"http://{server.address}", timeout=5) as client:
            yield server, client
    finally:
        await server.close()


async def test_the_metrics_of_the_last_round_are_served_also_compressed() -> None:
    async with served(b"a 1\n" * 500) as (server, client):
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert (plain.status_code, plain.text) == (200, "a 1\n" * 500)
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        zipped = await client.get("/metrics?name=a")
        assert (zipped.headers["content-encoding"], zipped.text) == ("gzip", plain.text)
        assert int(zipped.headers["content-length"]) < 100
        server.show(b"a 2\n")
        assert (await client.get("/metrics")).text == "a 2\n"
        assert (await client.head("/metrics")).status_code == 200


async def test_before_the_first_round_and_after_one_that_hangs_it_is_not_healthy() -> None:
    now = [0.0]
    async with served(None, elapsed=lambda: now[0]) as (server, client):
        assert (await client.get("/healthz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 503
        server.show(b"")
        assert (await client.get("/healthz")).status_code == 200
        now[0] = 300
        unhealthy = await client.get("/healthz")
        assert (unhealthy.status_code, unhealthy.text) == (503, "the last round ended 300 s ago\n")


async def test_with_a_token_nobody_else_reads_them_and_health_says_no_more_than_that() -> None:
    async with served(token="s3cret") as (server, client):
        for header in ({}, {"Authorization": "Bearer other"}, {"Authorization": "s3cret"}):
            refused = await client.get("/metrics", headers=header)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/metrics", headers={"Authorization": "Bearer s3cret"})).text == "a 1\n"
        assert (await client.get("/healthz")).status_code == 200
        assert "s3cret" not in repr(server)


async def test_a_page_in_a_browser_cannot_read_them_under_a_name_that_leads_to_this_machine() -> None:
    async with served() as (_, client):
        assert (await client.get("/metrics", headers={"Host": "evil.example.org:9464"})).status_code == 421
        for host in ("localhost:9464", "127.0.0.1", "[::1]:9464"):
            assert (await client.get("/metrics", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nAuthorization: \xff\xfe\r\nHost: localhost\r\n\r\n", 401),
    ],
)
async def test_what_is_no_request_for_metrics_gets_a_short_answer(sent: bytes, status: int) -> None:
    async with served(token="s3cret") as (server, _):
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == str(status).encode()
        assert b"passwd" not in answer


async def test_clients_that_stay_neither_stop_others_nor_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred that say nothing, more than may be connected, and one that does not take its answer."""
    monkeypatch.setattr(metrics_server, "_TAKE_SECONDS", 1.0)
    async with served(b"a 1\n" * 4_000_000) as (server, client):
        host, _, port = server.address.rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        greedy = idle[-1][1]
        greedy.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def is_connected() -> bool:
            peers = [writer.get_extra_info("peername") for writer in server._clients]
            return greedy.get_extra_info("sockname") in peers

        async with asyncio.timeout(5):
            while not is_connected():  # noqa: ASYNC110 - nothing is set when it is met
                await asyncio.sleep(0.01)
        assert (await client.get("/healthz")).status_code == 200
        assert 60 < len(server._clients) <= 64
        async with asyncio.timeout(5):
            while is_connected():  # noqa: ASYNC110 - nothing is set when it is dropped
                await asyncio.sleep(0.02)
        for _, writer in idle:
            writer.close()


async def test_a_client_that_asks_too_slowly_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_ASK_SECONDS", 0.1)
    async with served() as (server, _):
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metr")
        assert await asyncio.wait_for(reader.read(), 3) == b""
        assert server._clients == {}
