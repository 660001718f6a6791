"""Every kind of credential: where it travels, and where it never does."""

import asyncio
import base64
import json
import logging
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from flows.kinds.api import Api, ApiKeyHeader, ApiKeyQuery, Basic, Bearer, Endpoint, NextUrl, OAuth2
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.http import oauth
from flows.kinds.api.pages.endpoint import count_records, read_pages
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, DeclarationError, MedallionError, SourceUnavailable
from tests.kinds.api.http_servers import Answer, Request, json_page, raw, response, serve, silence, status
from tests.kinds.api.rest_reading import QUICK

SECRET = "canary-9c41/e+%"
ITEMS = Endpoint("items", path="/v1/items")


def declared(auth: Auth, **options: object) -> Api:
    return Api("ledger", connection="ledger", endpoints=[ITEMS], auth=auth, **options)  # type: ignore[arg-type]


def known_as(url: str, user: str | None = "reader") -> ApiConnection:
    return ApiConnection("ledger", url, SECRET, user)


async def records(api: Api, url: str, user: str | None = "reader") -> list[bytes]:
    pages = read_pages(api, ITEMS, known_as(url, user), limits=QUICK)
    return [record async for page in pages for record in page.records]


def token(value: str, *, lasts: float | None = 3600) -> Answer:
    granted = {"access_token": value, "token_type": "Bearer"} | ({} if lasts is None else {"expires_in": lasts})
    return raw(response(200, json.dumps(granted).encode()))


@pytest.fixture(autouse=True)
def _no_tokens_of_other_tests() -> None:
    oauth._tokens.clear()


async def test_user_and_password_travel_as_the_standard_says() -> None:
    async with serve(json_page([1])) as server:
        await records(declared(Basic()), server.url)
    scheme, _, pair = server.requests[0].headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(pair).decode()) == ("Basic", f"reader:{SECRET}")


@pytest.mark.parametrize(("auth", "word"), [(Bearer(), "Bearer"), (Bearer("Token"), "Token")])
async def test_a_token_travels_behind_its_word(auth: Bearer, word: str) -> None:
    async with serve(json_page([1])) as server:
        await records(declared(auth), server.url)
    assert server.requests[0].headers["authorization"] == f"{word} {SECRET}"


async def test_a_client_without_a_user_is_refused_before_any_request() -> None:
    for auth in (Basic(), OAuth2("/token")):
        with pytest.raises(ConfigurationError, match="MEDALLION_SOURCE_LEDGER_USER"):
            await records(declared(auth), "http://127.0.0.1:1", user=None)


@pytest.mark.parametrize("client", ["basic", "body"])
async def test_a_client_is_granted_a_token_once_for_many_reads(client: str) -> None:
    auth = OAuth2("/oauth/token", scope="read all", params=(("audience", "api"),), client=client)  # type: ignore[arg-type]
    async with serve(token("granted-1"), forever=json_page([1])) as server:
        await asyncio.gather(*(records(declared(auth), server.url) for _ in range(5)))
    asked, *pages = server.requests
    form = dict(parse_qsl(asked.body.decode()))
    assert (asked.method, asked.target) == ("POST", "/oauth/token")
    assert (form["grant_type"], form["scope"], form["audience"]) == ("client_credentials", "read all", "api")
    if client == "body":
        assert (form["client_id"], form["client_secret"]) == ("reader", SECRET)
    else:
        assert base64.b64decode(asked.headers["authorization"].split()[1]).decode() == "reader:canary-9c41%2Fe%2B%25"
        assert "client_secret" not in form
    assert [page.headers["authorization"] for page in pages] == ["Bearer granted-1"] * 5


async def test_a_token_is_renewed_ahead_of_its_end() -> None:
    """It lasts 0.4 s and is renewed at half of that: a request on its way must not outlive its token."""
    async with serve(
        token("one", lasts=0.4),
        json_page([1], following="?p=2"),
        json_page([2], following="?p=3"),  # asked for while the first is landed
        token("two", lasts=3600),
        json_page([3]),
    ) as server:
        pages = read_pages(declared(OAuth2("/token")), ITEMS, known_as(server.url), limits=QUICK)
        async for _ in pages:
            await asyncio.sleep(0.25)
    assert [r.headers["authorization"] for r in server.requests if r.method == "GET"] == [
        "Bearer one",
        "Bearer one",
        "Bearer two",
    ]


async def test_a_token_revoked_in_the_middle_is_renewed_once_and_the_same_page_asked_again() -> None:
    async with serve(
        token("one"), json_page([1], following="?p=2"), status(401), token("two"), json_page([2])
    ) as server:
        assert await records(declared(OAuth2("/token")), server.url) == [b"1", b"2"]
    assert [(r.method, r.target) for r in server.requests][2:] == [
        ("GET", "/v1/items?p=2"),
        ("POST", "/token"),
        ("GET", "/v1/items?p=2"),
    ]


async def test_reads_side_by_side_renew_a_revoked_token_in_one_flight() -> None:
    """Five reads are refused at once; only the first asks for another token."""
    valid = {"token": "one"}

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST":
            await asyncio.sleep(0.02)
            valid["token"] = f"granted-{len([r for r in server.requests if r.method == 'POST'])}"
            return await token(valid["token"])(request, writer)
        good = request.headers["authorization"] == f"Bearer {valid['token']}"
        await (json_page([1]) if good else status(401))(request, writer)

    async with serve(token("one"), forever=answer) as server:
        await records(declared(OAuth2("/token")), server.url)
        valid["token"] = "revoked"
        await asyncio.gather(*(records(declared(OAuth2("/token")), server.url) for _ in range(5)))
    assert [r.method for r in server.requests].count("POST") == 2


async def test_a_token_refused_twice_is_a_matter_of_configuration() -> None:
    async with serve(token("one"), status(401), token("two"), status(401)) as server:
        with pytest.raises(ConfigurationError, match="401 from GET /v1/items"):
            await records(declared(OAuth2("/token")), server.url)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (status(400), ConfigurationError),
        (status(401), ConfigurationError),
        (raw(response(200, b'{"error": "invalid_client"}')), ConfigurationError),
        (raw(response(200, b'{"access_token": "a\\nb", "token_type": "bearer"}')), ConfigurationError),
        (raw(response(200, b'{"access_token": "x", "token_type": "mac"}')), ConfigurationError),
        (status(302, "Location: http://127.0.0.1:9/token"), MedallionError),
        (status(503), SourceUnavailable),
        (silence(), SourceUnavailable),
    ],
)
async def test_a_token_that_is_not_granted_is_an_error_that_quotes_nothing(
    answer: Answer, kind: type[MedallionError]
) -> None:
    quick = replace(QUICK, request_seconds=0.3, max_attempts=2)
    async with serve(forever=answer) as server:
        pages = read_pages(declared(OAuth2("/token")), ITEMS, known_as(server.url), limits=quick)
        with pytest.raises(kind) as caught:
            await anext(pages)
    assert {request.target for request in server.requests} == {"/token"}
    assert SECRET not in repr(caught.value)
    assert "invalid_client" not in str(caught.value)


async def test_the_secret_goes_to_the_tokens_server_and_to_no_other() -> None:
    async with serve(token("granted")) as login, serve(json_page([1])) as server:
        await records(declared(OAuth2(f"{login.url}/token")), server.url)
    assert login.targets == ["/token"]
    assert SECRET not in str(server.requests)
    assert "granted" not in str(login.requests)


@pytest.mark.parametrize("auth", [ApiKeyHeader(), ApiKeyQuery("key"), Basic(), Bearer(), OAuth2("/token")])
async def test_no_credential_is_ever_logged_shown_or_kept_in_a_place(
    auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    """Every library at its most talkative; an API that puts the key it was given into its own next address."""
    for name in ("", "httpx", "httpcore"):  # a command that ran in this process makes the last two quiet
        caplog.set_level(logging.DEBUG, logger=name)
    key = "canary-9c41"
    echo = f"&key={key}" if isinstance(auth, ApiKeyQuery) else ""
    first = raw(response(200, json.dumps({"data": [1], "next": f"/v1/items?p=2{echo}"}).encode()))
    granted = [token("canary-token")] if isinstance(auth, OAuth2) else []
    answers = [*granted, first, status(500), status(401), *granted]
    async with serve(*answers, forever=status(401)) as server:
        api = declared(auth, pagination=NextUrl())
        pages = read_pages(api, ITEMS, ApiConnection("ledger", server.url, key, "reader"), limits=QUICK)
        page = await anext(pages)
        with pytest.raises(ConfigurationError) as caught:
            await anext(pages)
    sent = [str(request) for request in server.requests if request.target.startswith("/v1")]
    pair = base64.b64encode(f"reader:{key}".encode()).decode()
    words = (key, "canary-token", pair)
    assert all(any(word in request for word in words) for request in sent), "the credential did travel"
    assert "HTTP Request: GET" in caplog.text
    for trace in (caplog.text, repr(page), repr(caught.value), repr(caught.value.__context__), repr(auth)):
        assert [word for word in words if word in trace] == []


@pytest.mark.parametrize("address", ["token", "ftp://x/token", "https://user:pw@login.example.com/token"])
def test_a_tokens_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(DeclarationError, match="token_url is neither"):
        OAuth2(address)


def test_a_credential_in_declared_headers_is_refused() -> None:
    with pytest.raises(DeclarationError, match="must not contain credentials"):
        declared(Basic(), headers=(("Authorization", "Basic x"),))


async def test_declared_headers_go_out_with_every_request() -> None:
    api = declared(Bearer(), headers=(("Accept-Version", "2026-01"),))
    counted = replace(ITEMS, total="meta.total")
    async with serve(json_page([1], total=1)) as server:
        assert await count_records(api, counted, known_as(server.url), limits=QUICK) == 1
    assert server.requests[0].headers["accept-version"] == "2026-01"
