"""A credential of an API stays nowhere but in the request: every kind of auth, loads that end well and that do not."""

import base64
import json
import logging
from dataclasses import replace

import pytest

from flows.kinds.api import ApiKeyHeader, ApiKeyQuery, Basic, Bearer, NextUrl, OAuth2
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.http import oauth
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, RateLimited
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, raw, response, serve, status
from tests.kinds.api.loading import LISTS, keys
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
