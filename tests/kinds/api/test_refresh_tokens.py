"""A refresh token that its server replaces with every use: whoever loses the replacement loses access for good."""

import asyncio
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.access.kept_tokens import TokenFile
from flows.kinds.api import Api, Endpoint, PageNumber, RefreshToken
from flows.kinds.api.http import oauth, rotating
from flows.kinds.api.http.grants import identity_of
from flows.kinds.api.pages.endpoint import read_pages
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, SourceUnavailable
from flows.values.kept_token import KeptToken
from tests.kinds.api.http_servers import Answer, Request, raw, response, serve
from tests.kinds.api.rest_reading import QUICK
from tests.kinds.api.servers.imitation import closed, refuse
from tests.kinds.api.servers.xero import CLIENT_ID, CLIENT_SECRET, TENANT, Xero, XeroIdentity, invoice
from tests.kinds.conformance.forking import ROOT

ONE_READ = """
import asyncio, json, os
from flows.kinds.registry import kind_of
from flows.kinds.api.pages.endpoint import read_pages
from tests.kinds.api.test_refresh_tokens import declared
api = declared(os.environ["TOKEN_URL"])
async def main():
    found = [r async for p in read_pages(api, api.table("invoices"), kind_of(api).address(api)) for r in p.records]
    print(len(found))
asyncio.run(main())
"""


def declared(token_url: str) -> Api:
    return Api(
        "xero",
        connection="xero",
        auth=RefreshToken(token_url),
        headers=(("Xero-Tenant-Id", TENANT),),
        pagination=PageNumber(pages="pagination.pageCount"),
        endpoints=[Endpoint("invoices", path="/api.xro/2.0/Invoices", records="Invoices", key="InvoiceID")],
    )


@pytest.fixture(autouse=True)
def _as_a_new_process() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """What a process knows ends with it."""
    oauth._tokens.clear()
    rotating._unkept.clear()


@pytest.fixture
def xero() -> Iterator[Xero]:
    with XeroIdentity() as identity, Xero(identity=identity) as server:
        server.invoices = [invoice(number) for number in range(5)]
        yield server


@pytest.fixture
def place(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens" / "xero.json")


def connection(xero: Xero, place: TokenFile, token: str) -> ApiConnection:
    return ApiConnection("xero", xero.url, CLIENT_SECRET, CLIENT_ID, token, tokens=place)


async def read(xero: Xero, place: TokenFile, token: str) -> int:
    api = declared(f"{xero.identity.url}/connect/token")
    pages = read_pages(api, api.table("invoices"), connection(xero, place, token), limits=QUICK)
    return len([record async for page in pages for record in page.records])


async def test_a_later_run_uses_the_access_token_that_is_kept_and_replaces_nothing(
    xero: Xero, place: TokenFile
) -> None:
    token = xero.identity.authorise()
    for _ in range(3):
        forget()
        assert await read(xero, place, token) == 5
    assert len(xero.identity.asked) == 1


async def test_a_run_after_the_access_token_s_end_exchanges_the_replacement(xero: Xero, place: TokenFile) -> None:
    """The configured token was valid once; without a grace period, only its successor is."""
    token, xero.identity.grace = xero.identity.authorise(), 0
    for _ in range(3):
        forget()
        xero.identity.access.clear()
        assert await read(xero, place, token) == 5
    assert len(xero.identity.asked) == 3


async def test_what_is_kept_is_readable_by_this_account_only(xero: Xero, place: TokenFile) -> None:
    await read(xero, place, xero.identity.authorise())
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700
    kept = place.read()
    assert kept is not None
    assert kept.refresh_token == xero.identity.valid
    assert "canary" not in repr(kept)


def process(xero: Xero, home: Path, token: str, **variables: str) -> "subprocess.Popen[str]":
    """A run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", ONE_READ],
        cwd=ROOT,
        env={
            **os.environ,
            "MEDALLION_HOME": str(home),
            "MEDALLION_SOURCE_XERO_URL": xero.url,
            "MEDALLION_SOURCE_XERO_KEY": CLIENT_SECRET,
            "MEDALLION_SOURCE_XERO_USER": CLIENT_ID,
            "MEDALLION_SOURCE_XERO_TOKEN": token,
            "TOKEN_URL": f"{xero.identity.url}/connect/token",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_runs_at_once_exchange_the_token_once(xero: Xero, tmp_path: Path) -> None:
    """Without a grace period, the second exchange of one token would void everything."""
    token, xero.identity.grace, xero.identity.latency = xero.identity.authorise(), 0, 0.3
    runs = [process(xero, tmp_path, token) for _ in range(3)]
    said = [run.communicate(timeout=60) for run in runs]
    assert [out.strip() for out, _ in said] == ["5"] * 3, said
    assert len(xero.identity.asked) == 1


async def test_a_run_killed_between_the_answer_and_its_keeping_loses_nothing_within_the_grace_period(
    xero: Xero, tmp_path: Path
) -> None:
    token = xero.identity.authorise()
    killed = process(xero, tmp_path, token, MEDALLION_FAILPOINT="token_before_kept")
    _, said = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, said
    assert xero.identity.valid != token

    place = TokenFile(tmp_path / "tokens" / "xero.json")
    assert await read(xero, place, token) == 5
    kept = place.read()
    assert kept is not None
    assert (kept.refresh_token, kept.attempted_at) == (xero.identity.valid, 0)


async def test_without_a_grace_period_it_says_what_has_happened_and_a_new_token_is_enough(
    xero: Xero, tmp_path: Path
) -> None:
    token, xero.identity.grace = xero.identity.authorise(), 0
    process(xero, tmp_path, token, MEDALLION_FAILPOINT="token_before_kept").communicate(timeout=60)
    place = TokenFile(tmp_path / "tokens" / "xero.json")
    for _ in range(2):
        forget()
        with pytest.raises(ConfigurationError, match="ended before the answer was kept") as caught:
            await read(xero, place, token)
        assert "MEDALLION_SOURCE_XERO_TOKEN" in str(caught.value)
        assert "canary" not in str(caught.value)

    forget()
    assert await read(xero, place, xero.identity.authorise()) == 5


async def test_a_token_configured_by_mistake_does_not_cost_the_one_that_works(xero: Xero, place: TokenFile) -> None:
    token, xero.identity.grace = xero.identity.authorise(), 0
    await read(xero, place, token)
    for mistake in ("canary-typo", "canary-another"):
        forget()
        with pytest.raises(ConfigurationError, match="has expired, was revoked"):
            await read(xero, place, mistake)
    forget()
    xero.identity.access.clear()
    assert await read(xero, place, token) == 5


async def test_another_spelling_of_the_token_url_discards_nothing(xero: Xero, place: TokenFile) -> None:
    token, xero.identity.grace = xero.identity.authorise(), 0
    await read(xero, place, token)
    forget()
    xero.identity.access.clear()
    api = declared(f"{xero.identity.url}/connect/token/?v=2")
    pages = read_pages(api, api.table("invoices"), connection(xero, place, token), limits=QUICK)
    assert len([record async for page in pages for record in page.records]) == 5


async def test_a_run_that_has_lost_its_lock_does_not_overwrite_a_newer_token(xero: Xero, place: TokenFile) -> None:
    """A restart of the warehouse releases all locks."""
    token = xero.identity.authorise()
    newer = KeptToken(hashlib.sha256(token.encode()).hexdigest(), "newer", "access", 0)
    xero.identity.before[1] = lambda: place.write(newer)
    assert await read(xero, place, token) == 5
    assert place.read() == newer


async def test_an_answer_that_is_lost_on_its_way_is_requested_again(xero: Xero, place: TokenFile) -> None:
    token = xero.identity.authorise()
    xero.identity.trouble[1] = closed  # after the server has replaced the token
    assert await read(xero, place, token) == 5
    kept = place.read()
    assert kept is not None
    assert kept.refresh_token == xero.identity.valid


async def test_a_token_is_not_spent_if_nothing_can_be_kept(xero: Xero, place: TokenFile) -> None:
    token = xero.identity.authorise()
    place.path.parent.parent.mkdir(exist_ok=True)
    place.path.parent.write_text("a file, where a folder should be")
    with pytest.raises(ConfigurationError, match="tokens cannot be kept"):
        await read(xero, place, token)
    assert xero.identity.asked == []


class Failing(TokenFile):
    """A store that is down for a while after the exchange."""

    def __init__(self, path: Path, fails: int) -> None:
        super().__init__(path)
        object.__setattr__(self, "left", [fails])

    def write(self, kept: KeptToken) -> None:
        left: Any = object.__getattribute__(self, "left")
        if kept.access_token and left[0]:
            left[0] -= 1
            raise ConfigurationError("the store is down", where="store", fix="wait", retryable=True)
        super().write(kept)


async def test_a_store_that_is_down_after_the_exchange_is_tried_until_it_is_back(
    xero: Xero, place: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating, "_KEEPING_PAUSES", (0.01, 0.01))
    assert await read(xero, Failing(place.path, 2), xero.identity.authorise()) == 5
    kept = place.read()
    assert kept is not None
    assert kept.refresh_token == xero.identity.valid


async def test_a_replacement_that_could_not_be_kept_is_kept_by_the_next_read_of_the_process(
    xero: Xero, place: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating, "_KEEPING_PAUSES", ())
    token, xero.identity.grace = xero.identity.authorise(), 0
    store = Failing(place.path, 1)
    with pytest.raises(ConfigurationError, match="cannot be kept"):
        await read(xero, store, token)
    assert await read(xero, store, token) == 5
    kept = place.read()
    assert kept is not None
    assert kept.refresh_token == xero.identity.valid


async def test_a_cancelled_read_keeps_the_answer_that_is_under_way(xero: Xero, place: TokenFile) -> None:
    token, xero.identity.grace = xero.identity.authorise(), 0
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    xero.identity.before[1] = lambda: loop.call_soon_threadsafe(arrived.set)
    xero.identity.latency = 0.1
    reading = asyncio.create_task(read(xero, place, token))
    await arrived.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    kept = place.read()
    assert kept is not None
    assert kept.refresh_token == xero.identity.valid != token


async def test_an_access_token_revoked_in_the_middle_is_replaced_once(xero: Xero, place: TokenFile) -> None:
    token = xero.identity.authorise()
    xero.before[1] = xero.identity.access.clear
    assert await read(xero, place, token) == 5
    assert len(xero.identity.asked) == 2


async def test_a_refused_client_does_not_spoil_the_token(xero: Xero, place: TokenFile) -> None:
    token = xero.identity.authorise()
    wrong = replace(connection(xero, place, token), key="canary-wrong")
    api = declared(f"{xero.identity.url}/connect/token")
    with pytest.raises(ConfigurationError, match="invalid_client") as caught:
        async for _ in read_pages(api, api.table("invoices"), wrong, limits=QUICK):
            pass
    assert "canary" not in str(caught.value)
    kept = place.read()
    assert kept is not None
    assert kept.attempted_at == 0
    assert await read(xero, place, token) == 5


async def test_an_identity_server_that_is_down_is_not_taken_for_a_refusal(xero: Xero, place: TokenFile) -> None:
    token = xero.identity.authorise()
    xero.identity.trouble |= {1: refuse(503), 2: refuse(503), 3: refuse(503)}
    with pytest.raises(SourceUnavailable):
        await read(xero, place, token)
    assert await read(xero, place, token) == 5


async def test_without_a_refresh_token_nothing_is_requested(xero: Xero, place: TokenFile) -> None:
    with pytest.raises(ConfigurationError, match="MEDALLION_SOURCE_XERO_TOKEN"):
        await read(xero, place, "")
    assert xero.identity.asked == []


def test_a_kept_token_that_cannot_be_read_is_not_quoted(place: TokenFile) -> None:
    place.path.parent.mkdir(parents=True)
    place.path.write_text(json.dumps({"refresh_token": "canary", "x": 1})[:-3])
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        place.read()
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None or "canary" not in str(caught.value.__context__)


def grants(answer: object, code: int = 200) -> Answer:
    return raw(response(code, json.dumps(answer).encode()))


async def test_a_replacement_is_kept_even_if_its_access_token_is_of_no_use(tmp_path: Path) -> None:
    keeper = TokenFile(tmp_path / "tokens" / "x.json")
    granted = {"access_token": "a", "token_type": "bot", "refresh_token": "r2", "expires_in": 100}
    async with serve(forever=grants(granted)) as server:
        api = declared(server.url + "/token")
        connection = ApiConnection("xero", server.url, "s", "u", "r1", tokens=keeper)
        with pytest.raises(ConfigurationError, match="not a bearer token"):
            [page async for page in read_pages(api, api.table("invoices"), connection, limits=QUICK)]
    kept = keeper.read()
    assert kept is not None
    assert (kept.refresh_token, kept.access_token) == ("r2", "")


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client"])
async def test_a_run_that_has_lost_its_lock_replaces_no_newer_token(error: str, tmp_path: Path) -> None:
    keeper = TokenFile(tmp_path / "tokens" / "x.json")
    seed = identity_of("r0")
    keeper.write(KeptToken(seed, "r1", "a1", 1.0))

    class Unlocked:
        where = "here"
        read, write = keeper.read, keeper.write

        @asynccontextmanager
        async def alone(self) -> AsyncIterator[None]:
            yield

    async def token(request: Request, writer: asyncio.StreamWriter) -> None:
        keeper.write(KeptToken(seed, "r2", "a2", 9e9))  # the other run, meanwhile
        await grants({"error": error}, 400)(request, writer)

    async with serve(token, forever=grants({"Invoices": [], "pagination": {"pageCount": 0}})) as server:
        api = declared(server.url + "/token")
        connection = ApiConnection("xero", server.url, "s", "u", "r0", tokens=Unlocked())
        [page async for page in read_pages(api, api.table("invoices"), connection, limits=QUICK)]
        assert server.requests[-1].headers["authorization"] == "Bearer a2"
    kept = keeper.read()
    assert kept is not None
    assert kept.refresh_token == "r2"
