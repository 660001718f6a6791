"""HTTP/2, where a server offers it: one connection for all pages that are under way."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

from flows.kinds.api import Endpoint, PageNumber
from flows.kinds.api.http import connections
from flows.values.errors import SourceUnavailable
from tests.kinds.api.certificates import own_certificate, serving
from tests.kinds.api.rest_reading import KEY, QUICK, api, read, values

ITEMS = Endpoint("items", path="/v1/items", total="total", concurrent=5)


@dataclass
class Pages:
    """A server of 20 numbered pages; `cut` ends that page's stream by a reset, once."""

    url: str = ""
    connections: int = 0
    keys: list[str] = field(default_factory=list)
    cut: int | None = None

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        protocol = H2Connection(H2Configuration(client_side=False))
        protocol.initiate_connection()
        writer.write(protocol.data_to_send())
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in protocol.receive_data(data):
                    if isinstance(event, RequestReceived):
                        self._answer(protocol, event)
                writer.write(protocol.data_to_send())

    def _answer(self, protocol: H2Connection, event: RequestReceived) -> None:
        headers = {bytes(name): bytes(value).decode() for name, value in event.headers}
        self.keys.append(headers[b"x-api-key"])
        page = int(dict(parse_qsl(urlsplit(headers[b":path"]).query))["page"])
        body = json.dumps({"data": [{"id": page}] if page <= 20 else [], "total": 20}).encode()
        protocol.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
        if page == self.cut:
            self.cut = None
            protocol.send_data(event.stream_id, body[:-3])
            protocol.reset_stream(event.stream_id)
        else:
            protocol.send_data(event.stream_id, body, end_stream=True)


@asynccontextmanager
async def pages_over_http2(file: Path, **options: int) -> AsyncIterator[Pages]:
    server = Pages(**options)  # type: ignore[arg-type]
    listener = await asyncio.start_server(server.converse, "127.0.0.1", 0, ssl=serving(file, "h2"))
    server.url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield server
    listener.close()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = own_certificate(tmp_path)
    monkeypatch.setattr(connections, "_trusted", lambda: ssl.create_default_context(cafile=str(file)))
    return file


async def test_pages_side_by_side_share_one_connection(certificate: Path) -> None:
    async with pages_over_http2(certificate) as server:
        pages = await read(server.url, ITEMS, api(ITEMS, pagination=PageNumber()))
    assert values(pages) == [{"id": n} for n in range(1, 21)]
    assert (server.connections, set(server.keys)) == (1, {KEY})


async def test_no_log_of_http2_has_the_key(certificate: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The library that compresses headers writes each of them, if it is told to."""
    for name in ("", "hpack", "httpcore", "httpcore.http2"):
        caplog.set_level(logging.DEBUG, name)
    async with pages_over_http2(certificate) as server:
        await read(server.url, ITEMS, api(ITEMS, pagination=PageNumber()))
    assert set(server.keys) == {KEY}
    assert KEY not in caplog.text
    assert "Encoding" in caplog.text


async def test_a_stream_that_is_reset_in_the_middle_is_the_page_again(certificate: Path) -> None:
    async with pages_over_http2(certificate, cut=7) as server:
        pages = await read(server.url, ITEMS, api(ITEMS, pagination=PageNumber()))
        assert len(values(pages)) == 20
        server.cut = 3
        with pytest.raises(SourceUnavailable):
            await read(server.url, ITEMS, api(ITEMS, pagination=PageNumber()), limits=replace(QUICK, max_attempts=1))
