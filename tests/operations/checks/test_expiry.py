"""Certificates are looked at in real handshakes, also those that nobody would trust."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.operations.checks.expiry import Endpoint, certificates, endpoint
from tests.operations.checks.certificate import certificate

AHEAD = timedelta(days=21)


@asynccontextmanager
async def serving(folder: Path, ends: datetime, postgres: bool = False) -> AsyncIterator[Endpoint]:
    """A server with a certificate that ends then. As PostgreSQL, it waits for a request before the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder, ends))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if postgres:
            assert (await reader.readexactly(8))[4:] == (80877103).to_bytes(4, "big")
            writer.write(b"S")
            await writer.start_tls(context)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=None if postgres else context)
    async with server:
        yield Endpoint("source web", "127.0.0.1", server.sockets[0].getsockname()[1], postgres)


@pytest.mark.parametrize("postgres", [False, True])
@pytest.mark.parametrize(
    ("days", "severity"), [(40, None), (20, "warning"), (5, "error"), (1, "critical"), (-3, "critical")]
)
async def test_a_certificate_that_ends_is_told_in_time(
    tmp_path: Path, days: int, severity: str | None, postgres: bool
) -> None:
    now = datetime.now(UTC)
    async with serving(tmp_path, now + timedelta(days=days), postgres) as at:
        found = await certificates([at], now, AHEAD)
    assert [each.severity for each in found] == ([severity] if severity else [])
    assert all("ended" in each.what if days < 0 else "ends" in each.what for each in found)


async def test_a_server_that_does_not_answer_or_speaks_no_tls_is_no_business_of_this_check(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"N")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        silent = [
            Endpoint("a", "127.0.0.1", 1),
            Endpoint("b", "127.0.0.1", port),
            Endpoint("c", "127.0.0.1", port, True),
        ]
        assert await certificates(silent, datetime.now(UTC), AHEAD) == []


def test_what_has_a_certificate_is_told_by_the_url() -> None:
    assert endpoint("web", "https://user:secret@api.example.com/v1") == Endpoint("web", "api.example.com", 443)
    assert endpoint("web", "http://api.example.com/v1") is None
    assert endpoint("shop", "postgresql://a:b@db.example.com/shop?sslmode=verify-full") == Endpoint(
        "shop", "db.example.com", 5432, postgres=True
    )
    assert endpoint("shop", "postgresql://a:b@db.example.com/shop?sslmode=disable") is None
    assert endpoint("shop", "postgresql://a:b@127.0.0.1:5432/shop") is None
    assert endpoint("shop", "sqlite:///a/file") is None
    assert endpoint("shop", "postgresql://a:b@one:1,two:2/shop?sslmode=require") is None
