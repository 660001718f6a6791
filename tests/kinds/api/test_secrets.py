"""A credential of an API stays nowhere but in the request: every kind of auth, loads that end well and that do not."""

import base64
import json
import logging
from dataclasses import replace

import httpx
import pytest

from flows.kinds.api import (
    Api,
    ApiKeyHeader,
    ApiKeyQuery,
    Basic,
    Bearer,
    ChangeToken,
    Csv,
    Endpoint,
    LinkHeader,
    NextUrl,
    OAuth2,
)
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.http import oauth
from flows.kinds.api.http.request import text_without_parameter, without_parameter
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, RateLimited
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, raw, response, serve, status
from tests.kinds.api.loading import LISTS, keys
from tests.kinds.api.rest_reading import read
from tests.kinds.loading import at, rows, setting

SECRET = "zqcanary77"
TOKEN = "zqtoken88"
WORDS = (SECRET, TOKEN, base64.b64encode(f"zquser:{SECRET}".encode()).decode())


def body(document: object) -> Answer:
    return raw(response(200, json.dumps(document).encode()))


@pytest.mark.parametrize(
    "auth",
    [ApiKeyHeader(), ApiKeyQuery("key"), Basic(), Bearer(), OAuth2("/token")],
    ids=lambda auth: type(auth).__name__,
)
async def test_no_table_log_or_error_holds_a_credential(
    warehouse: TestDatabase, auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    """The API puts the key that it was given into its own next address, as some do; that address is kept as a place."""
    caplog.set_level(logging.DEBUG)
    oauth._tokens.clear()
    endpoint = replace(LISTS.table("items"), cursor=None, pagination=NextUrl())
    api = replace(LISTS, auth=auth, endpoints=[endpoint])
    echo = f"&key={SECRET}" if isinstance(auth, ApiKeyQuery) else ""
    granted = body({"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600})
    first = body({"data": [{"id": 1}], "next": f"/v1/items?p=2{echo}"})
    answers = [first, status(429, "Retry-After: 3600"), status(401)]
    if isinstance(auth, OAuth2):
        answers = [granted, *answers, granted, status(401)]

    errors = []
    async with serve(*answers) as server:
        connection = ApiConnection("lists", server.url, SECRET, "zquser")
        with setting(api_wait_budget_seconds=1):
            for kind in (RateLimited, ConfigurationError):
                with pytest.raises(kind) as caught:
                    await load_table(at(warehouse, "loader"), connection, api, endpoint)
                errors.append(f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}")

    assert keys(warehouse, "items") == [1]
    sent = [str(request) for request in server.requests]
    assert all(any(word in request for word in (*WORDS, "%3A")) for request in sent), "the credential did travel"
    tables = rows(warehouse, "select relname from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'r'")
    held = [
        row["row"]
        for table in tables
        for row in rows(warehouse, f"select t::text as row from ops.{table['relname']} as t")
    ]
    assert any("/v1/items?p=2" in row for row in held), "the place is kept"
    for trace in (*held, *errors, caplog.text):
        assert [word for word in WORDS if word in trace] == []


@pytest.mark.parametrize("name", ["key", "KEY", "k%65y"])
async def test_a_key_that_comes_back_in_any_address_is_neither_stored_nor_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    endpoint = Endpoint("items", path="/x", pagination=NextUrl("next"), cursor=ChangeToken("", at="delta"))
    lines = Endpoint("lines", path="/x", format=Csv(), pagination=LinkHeader())
    api = Api("marketing", connection="marketing", endpoints=[endpoint, lines], auth=ApiKeyQuery("key"))
    echo = f"{name}={SECRET}"
    away = raw(response(307, b"", f"Location: /y?a=1&{echo}"))
    last = body({"data": [2], "next": None, "delta": f"/x?t=a%2Cb&{echo}"})
    async with serve(away, body({"data": [1], "next": f"/x?p=2;{echo}", "delta": None}), last) as server:
        pages = await read(server.url, endpoint, api, key=SECRET)
        assert [request.query["key"] for request in server.requests[:2]] == [SECRET, SECRET]
    link = f'Link: </x?p=2&{echo}>; rel="next"'
    csv = [raw(response(200, b"id\n1\n", *more, content_type="text/csv")) for more in ((link,), ())]
    async with serve(*csv) as server:
        pages += await read(server.url, lines, api, key=SECRET)
    assert [page.token for page in pages if page.token] == ["/x?t=a%2Cb"]
    assert SECRET not in json.dumps([page.place for page in pages])
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("/x?a=1&key=s&b=2", "/x?a=1&b=2"),
        ("/x?key=s#end", "/x#end"),
        ("/x?a=1;KEY=s;b=;2&&c", "/x?a=1;b=;2&&c"),
        ("/x?keys=1&monkey=2", "/x?keys=1&monkey=2"),
        ("/x", "/x"),
    ],
)
def test_what_is_not_the_key_stays_byte_for_byte(url: str, kept: str) -> None:
    assert text_without_parameter(url, "key") == kept
    whole = without_parameter(httpx.URL("https://example.com" + url), "key")
    assert str(whole) == "https://example.com" + kept
