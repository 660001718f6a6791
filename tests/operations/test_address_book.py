"""Addresses are read from blocks without Prefect's code, and remembered while their store is away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from flows.cli import outside
from flows.operations.address_book import AddressBook
from flows.operations.prefect_api import PrefectApi, PrefectDown, find_api
from flows.values.settings import settings
from tests.conftest import ROOT

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def answering(*answers: object) -> PrefectApi:
    """A server that gives these lists of blocks in turn; None is one that does not answer."""
    left = [*answers]

    def answer(request: httpx.Request) -> httpx.Response:
        found = left.pop(0)
        return httpx.Response(503) if found is None else httpx.Response(200, json=found)

    api = PrefectApi("http://prefect.example.com/api")
    api._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return api


async def test_a_channel_of_a_block_stays_known_while_the_server_is_away() -> None:
    block = {"name": "alerts", "data": {"webhook": "https://hooks.example.com/secret", "form": "slack"}}
    book = AddressBook(["default", "on-call"], answering([block], None, []))
    await book.read_channels(NOW)
    channel = book.channel("default")
    assert channel is not None
    assert (channel.url, channel.form) == ("https://hooks.example.com/secret", "slack")
    assert "secret" not in repr(book)
    assert book.channel("on-call") is None
    await book.read_channels(NOW + timedelta(minutes=6))
    assert book.channel("default") == channel, "the server is away"
    await book.read_channels(NOW + timedelta(minutes=12))
    assert book.channel("default") is None, "the block is gone"


async def test_the_warehouse_of_a_block_stays_known_while_the_server_is_away() -> None:
    url = "postgresql://loader:secret@127.0.0.1:5432/warehouse"
    book = AddressBook([], answering([{"name": "warehouse", "data": {"loader": url}}], None))
    settings.cache_clear()
    assert (await book.warehouse(NOW)).url == url
    assert (await book.warehouse(NOW + timedelta(minutes=6))).url == url
    assert "secret" not in repr(book)


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of the run's other tests is not configured."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_server")
def test_the_servers_credentials_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_api() is None
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.com/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "user:secret")
    api = find_api()
    assert api is not None
    assert api.credentials == {"Authorization": "Basic dXNlcjpzZWNyZXQ="}
    assert "dXNlcjpzZWNyZXQ" not in repr(api)
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_1")
    api = find_api()
    assert api is not None
    assert api.credentials == {"Authorization": "Bearer pnu_1"}


def test_the_watch_imports_neither_prefect_nor_dbt_nor_pandas() -> None:
    """It is one process more on every machine: 60 MB instead of 300."""
    code = (
        "import sys; from flows.cli import app; from flows.cli.outside import build; "
        "from flows.operations.watch_clock import Clock; build(Clock()); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'prefect', 'dbt', 'pandas', 'numpy', 'sqlglot', 'soda_core', 'dlt', 'cryptography'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.usefixtures("no_server")
async def test_credentials_of_the_embedded_server_are_sent_to_no_other_that_took_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
        writer.close()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        home = tmp_path / ".medallion"
        home.mkdir()
        facts = {"home": str(home), "prefect": {"api_url": f"http://127.0.0.1:{port}/api", "auth_string": "a:secret"}}
        (home / "stack.json").write_text(json.dumps(facts))
        monkeypatch.setenv("MEDALLION_HOME", str(home))
        settings.cache_clear()
        api = find_api(outside._prove)
        assert api is not None
        assert api.embedded
        with pytest.raises(PrefectDown, match="does not belong to this stack"):
            await asyncio.to_thread(lambda: asyncio.run(api.ask("/deployments/filter", {})))
        (home / "stack.json").unlink()
        with pytest.raises(PrefectDown, match="is not running"):
            await api.ask("/deployments/filter", {})
        settings.cache_clear()
    assert heard, "it was asked for its proof"
    assert b"uthorization" not in b"".join(heard)
