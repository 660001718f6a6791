"""Tokens that are requested or made first: service accounts, logins, signatures, several keys, client certificates."""

import asyncio
import hashlib
import hmac
import json
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flows.kinds.api import (
    Api,
    ApiKeyBody,
    ApiKeyHeader,
    ApiKeyQuery,
    Bearer,
    Cookie,
    Endpoint,
    JwtBearer,
    Login,
    NoAuth,
    SeveralKeys,
    Signed,
    SinglePage,
)
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.http import connections, oauth
from flows.kinds.api.pages.endpoint import read_pages
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, DeclarationError, MedallionError, RateLimited
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.certificates import own_certificate
from tests.kinds.api.http_servers import Answer, Request, Server, json_page, raw, response, serve, status
from tests.kinds.api.rest_reading import QUICK
from tests.kinds.loading import at, rows

SECRET = "canary-9c41/e+%"
ITEMS = Endpoint("items", path="/v1/items")


@pytest.fixture(autouse=True)
def _no_tokens_of_other_tests() -> None:
    oauth._tokens.clear()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def declared(auth: Auth, **options: Any) -> Api:
    return Api("ledger", connection="ledger", endpoints=[ITEMS], auth=auth, **options)


async def records(
    auth: Auth, server: Server, secret: str | None = SECRET, user: str | None = "reader", **options: Any
) -> list[bytes]:
    certificate = options.pop("certificate", None)
    connection = ApiConnection("ledger", server.url, secret, user, certificate=certificate)
    pages = read_pages(declared(auth, **options), ITEMS, connection, limits=QUICK)
    return [record async for page in pages for record in page.records]


def granted(value: str, lasts: float = 3600) -> Answer:
    body = {"access_token": value, "token_type": "Bearer", "expires_in": lasts}
    return raw(response(200, json.dumps(body).encode()))


def asserted(request: Request, key: rsa.RSAPrivateKey, field: str = "assertion") -> dict[str, Any]:
    """The claims of a request's assertion, if its signature is right."""
    found: dict[str, Any] = jwt.decode(
        dict(parse_qsl(request.body.decode()))[field],
        key.public_key(),
        algorithms=["RS256"],
        options={"verify_aud": False, "require": ["exp", "iat", "iss", "sub", "aud"]},
    )
    return found


async def test_a_service_account_asserts_who_it_is_and_is_granted_a_token(key: rsa.RSAPrivateKey) -> None:
    file = json.dumps(
        {"type": "service_account", "client_email": "etl@shop.iam", "private_key": pem(key), "private_key_id": "k1"}
    )
    async with serve(granted("one"), json_page([1])) as server:
        assert await records(JwtBearer("/token", scope="read"), server, file, user=None) == [b"1"]
    form = dict(parse_qsl(server.requests[0].body.decode()))
    claims = asserted(server.requests[0], key)
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert jwt.get_unverified_header(form["assertion"])["kid"] == "k1"
    assert (claims["iss"], claims["aud"], claims["scope"]) == ("etl@shop.iam", f"{server.url}/token", "read")
    assert claims["exp"] - claims["iat"] == 3600
    assert server.requests[1].headers["authorization"] == "Bearer one"


async def test_a_key_in_pem_asserts_for_somebody_to_an_audience(key: rsa.RSAPrivateKey) -> None:
    auth = JwtBearer("/token", subject="ann@example.com", audience="https://login.example.com", lifetime="3 min")
    async with serve(granted("one"), json_page([1])) as server:
        await records(auth, server, pem(key).replace("\n", "\\n"))
    claims = asserted(server.requests[0], key)
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("reader", "ann@example.com", "https://login.example.com")


async def test_a_client_is_proven_by_an_assertion(key: rsa.RSAPrivateKey) -> None:
    async with serve(granted("one"), json_page([1])) as server:
        await records(JwtBearer("/token", proves="client", headers=(("kid", "7"),)), server, pem(key))
    form = dict(parse_qsl(server.requests[0].body.decode()))
    assert form["grant_type"] == "client_credentials"
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert asserted(server.requests[0], key, "client_assertion")["sub"] == "reader"


async def test_an_assertion_is_the_token_itself_where_there_is_no_token_server(key: rsa.RSAPrivateKey) -> None:
    async with serve(status(401), json_page([1], following="?p=2"), json_page([2])) as server:
        assert await records(JwtBearer(lifetime="10 min", claims=(("bid", "shop"),)), server, pem(key)) == [b"1", b"2"]
    tokens = [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]
    assert tokens[0] != tokens[1] == tokens[2]
    assert jwt.decode(tokens[2], key.public_key(), ["RS256"], options={"verify_aud": False})["bid"] == "shop"


@pytest.mark.parametrize(
    "secret", ["canary", "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----", '{"a": "canary"}']
)
async def test_a_key_that_cannot_sign_is_not_quoted(secret: str) -> None:
    async with serve() as server:
        with pytest.raises(ConfigurationError, match="MEDALLION_SOURCE_LEDGER_KEY") as caught:
            await records(JwtBearer("/token"), server, secret)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        (Login("/login", token="data.id"), lambda r: json.loads(r.body) == {"username": "reader", "password": SECRET}),
        (
            Login("/login", user="email", password="pin", token="data.id", send="form", extra=(("tenant", "4"),)),
            lambda r: dict(parse_qsl(r.body.decode())) == {"email": "reader", "pin": SECRET, "tenant": "4"},
        ),
        (Login("/login", token="data.id", send="basic"), lambda r: r.headers["authorization"].startswith("Basic ")),
    ],
)
async def test_a_login_gives_a_session_token(auth: Login, sent: Callable[[Request], bool]) -> None:
    login = raw(response(200, b'{"data": {"id": "session-1"}}'))
    async with serve(login, json_page([1], following="?p=2"), json_page([2])) as server:
        assert await records(auth, server) == [b"1", b"2"]
    assert sent(server.requests[0])
    assert [request.headers["authorization"] for request in server.requests[1:]] == ["Bearer session-1"] * 2


@pytest.mark.parametrize(
    ("sent_as", "found"),
    [
        (ApiKeyHeader("X-Session"), lambda r: r.headers["x-session"]),
        (Cookie("SID"), lambda r: r.headers["cookie"].removeprefix("SID=")),
        (ApiKeyQuery("session"), lambda r: r.query["session"]),
    ],
)
@pytest.mark.parametrize("place", ["header", "cookie"])
async def test_a_session_token_comes_in_the_head_and_is_sent_as_declared(
    place: str, sent_as: Any, found: Callable[[Request], str]
) -> None:
    head = {"header": "X-Token: session-1", "cookie": "Set-Cookie: sid=session-1; Path=/; HttpOnly"}[place]
    auth = Login("/login", sent_as=sent_as, **{place: {"header": "X-Token", "cookie": "sid"}[place]})  # type: ignore[arg-type]
    login = raw(response(200, b"<html>welcome</html>", head, content_type="text/html"))
    async with serve(login, json_page([1])) as server:
        await records(auth, server)
    assert found(server.requests[1]) == "session-1"


async def test_a_session_that_has_expired_is_opened_again_for_the_same_page() -> None:
    login = raw(response(200, b'{"token": "a"}')), raw(response(200, b'{"token": "b"}'))
    auth = Login("/login", token="token", expires=(401, 419))
    async with serve(login[0], json_page([1], following="?p=2"), status(419), login[1], json_page([2])) as server:
        assert await records(auth, server) == [b"1", b"2"]
    assert [request.target for request in server.requests][2:] == ["/v1/items?p=2", "/login", "/v1/items?p=2"]


async def test_a_refused_login_is_a_matter_of_configuration_and_quotes_nothing() -> None:
    async with serve(status(401)) as server:
        with pytest.raises(ConfigurationError, match="401 from POST /login") as caught:
            await records(Login("/login", token="token"), server)
    assert "canary" not in str(caught.value)


async def test_a_login_without_the_declared_token_says_so() -> None:
    async with serve(raw(response(200, b'{"other": "x"}'))) as server:
        with pytest.raises(ConfigurationError, match="no session token"):
            await records(Login("/login", token="token"), server)


async def test_a_function_of_ten_lines_signs_each_request() -> None:
    hook = Signed("tests.kinds.api.servers.signing:sign")
    async with serve(json_page([1], following="?p=2"), json_page([2])) as server:
        assert await records(hook, server) == [b"1", b"2"]
    for request in server.requests:
        expected = hmac.new(SECRET.encode(), f"GET\n{request.target}\n".encode(), hashlib.sha256).hexdigest()
        assert (request.headers["x-key"], request.headers["x-signature"]) == ("reader", expected)


async def test_a_signature_in_the_query_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with serve(json_page([1])) as server:
            await records(Signed("tests.kinds.api.servers.signing:sign_query"), server)
    assert "signature" in server.requests[0].query
    assert "signature" not in caplog.text


@pytest.mark.parametrize("name", ["fails", "leads_away"])
async def test_a_function_that_fails_or_leads_elsewhere_sends_nothing(name: str) -> None:
    async with serve() as server:
        with pytest.raises(ConfigurationError, match=f"signing:{name}") as caught:
            await records(Signed(f"tests.kinds.api.servers.signing:{name}"), server)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["takes_less", "waits", "absent"])
async def test_a_function_that_cannot_sign_is_refused_before_any_request(name: str) -> None:
    async with serve() as server:
        with pytest.raises(DeclarationError, match=name):
            await records(Signed(f"tests.kinds.api.servers.signing:{name}"), server)


def by_key(limits: dict[str, list[Answer]], last: Answer) -> Answer:
    """Answers by the key that a request brings."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        waiting = limits.get(request.headers["authorization"].removeprefix("Bearer "), [])
        await (waiting.pop(0) if waiting else last)(request, writer)

    return answer


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [
        (Endpoint("items", path="/v1/items", body={"q": 1}), b'{"q":1,"auth":{"key":"canary-9c41/e+%"}}'),
        (Endpoint("items", path="/v1/items", body={"q": "x y"}, form=True), b"q=x+y&auth.key=canary-9c41%2Fe%2B%25"),
    ],
)
async def test_a_key_travels_in_the_body(endpoint: Endpoint, sent: bytes) -> None:
    api = Api("ledger", connection="ledger", endpoints=[endpoint], auth=ApiKeyBody("auth.key"))
    async with serve(json_page([1])) as server:
        async for _ in read_pages(api, endpoint, ApiConnection("ledger", server.url, SECRET), limits=QUICK):
            pass
    assert server.requests[0].body == sent


async def test_a_key_for_a_body_that_is_not_there_is_not_sent() -> None:
    async with serve() as server:
        with pytest.raises(ConfigurationError, match="no such place"):
            await records(ApiKeyBody(), server)


async def test_a_body_that_is_a_text_is_sent_as_it_is() -> None:
    endpoint = Endpoint("items", path="/v1/items", body="<q>ö</q>", body_type="text/xml", page_size=5)
    api = Api("ledger", connection="ledger", endpoints=[endpoint])
    async with serve(json_page([1])) as server:
        async for _ in read_pages(api, endpoint, ApiConnection("ledger", server.url), limits=QUICK):
            pass
    request = server.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/v1/items?limit=5", "<q>ö</q>".encode())
    assert request.headers["content-type"] == "text/xml"


async def test_several_keys_take_turns() -> None:
    async with serve(*(json_page([n], following=f"?p={n}") for n in range(3)), json_page([3])) as server:
        assert len(await records(SeveralKeys(), server, "turn-a turn-b\nturn-c")) == 4
    used = [request.headers["authorization"][-1] for request in server.requests]
    assert used == ["a", "b", "c", "a"]


async def test_a_key_whose_limit_is_used_up_is_left_out_and_nobody_waits() -> None:
    limits = {"full-a": [status(429, "Retry-After: 600")], "full-b": []}
    pages = [json_page([n], following=f"?p={n}") for n in range(3)]
    async with serve(forever=by_key(limits | {"full-b": [*pages]}, json_page([9]))) as server:
        assert await records(SeveralKeys(), server, "full-a full-b") == [b"0", b"1", b"2", b"9"]
    assert [request.headers["authorization"][-1] for request in server.requests] == ["a", "b", "b", "b", "b"]


async def test_a_quota_told_ahead_is_that_of_the_key() -> None:
    last = json_page([1], "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 600", following="?p=2")
    limits = {"told-a": [last], "told-b": [json_page([2], following="?p=3"), json_page([3])]}
    async with serve(forever=by_key(limits, status(500))) as server:
        assert await records(SeveralKeys(), server, "told-a told-b") == [b"1", b"2", b"3"]


async def test_when_all_keys_are_used_up_the_load_waits_for_the_first_of_them() -> None:
    limits = {"all-a": [status(429, "Retry-After: 600")], "all-b": [status(429, "Retry-After: 300")]}
    async with serve(forever=by_key(limits, json_page([1]))) as server:
        with pytest.raises(RateLimited) as caught:
            await records(SeveralKeys(), server, "all-a all-b")
    assert 290 < caught.value.retry_after <= 300


async def test_a_key_that_is_rejected_is_put_aside_and_the_others_are_used() -> None:
    pages = {
        "gone-b": [status(401)],
        "gone-a": [json_page([1], following="?p=2"), json_page([3], following="?p=4"), json_page([4])],
        "gone-c": [json_page([2], following="?p=3")],
    }
    async with serve(forever=by_key(pages, status(500))) as server:
        assert await records(SeveralKeys(), server, "gone-a gone-b gone-c") == [b"1", b"2", b"3", b"4"]
    used = [request.headers["authorization"][-1] for request in server.requests]
    assert used[:4] == ["a", "b", "c", "a"]
    assert used.count("b") == 1


async def test_a_key_that_may_not_read_what_another_may_is_put_aside() -> None:
    pages = {"less-a": [status(403)], "less-b": [json_page([1], following="?p=2"), json_page([2])]}
    async with serve(forever=by_key(pages, status(500))) as server:
        assert await records(SeveralKeys(), server, "less-a less-b") == [b"1", b"2"]
    assert [request.headers["authorization"][-1] for request in server.requests] == ["a", "b", "b"]


@pytest.mark.parametrize(("code", "told"), [(401, "rejects each of the keys"), (403, "lets none of the keys read")])
async def test_when_the_api_rejects_all_keys_the_load_fails_and_the_next_one_tries_all_again(
    code: int, told: str
) -> None:
    keys = f"none-a{code} none-b{code}"
    async with serve(*[status(code)] * 4) as server:
        for _ in range(2):
            with pytest.raises(ConfigurationError) as caught:
                await records(SeveralKeys(), server, keys)
            assert told in caught.value.fix
            assert "MEDALLION_SOURCE_LEDGER_KEY" in caught.value.fix
            assert "none-" not in str(caught.value)
    assert len({request.headers["authorization"] for request in server.requests}) == 2


async def test_a_list_that_no_key_may_read_puts_no_key_aside() -> None:
    """One parent of many that is forbidden is none of the keys' faults."""
    pages = {"some-a": [status(403), json_page([1])], "some-b": [status(403)]}
    async with serve(forever=by_key(pages, json_page([2]))) as server:
        with pytest.raises(ConfigurationError):
            await records(SeveralKeys(), server, "some-a some-b")
        for _ in range(2):
            await records(SeveralKeys(), server, "some-a some-b")
    assert {request.headers["authorization"][-1] for request in server.requests[2:]} == {"a", "b"}


async def test_a_load_names_the_key_that_was_put_aside_once_and_without_its_value(warehouse: TestDatabase) -> None:
    """Also if a plan has met it first."""
    api = declared(SeveralKeys(), pagination=SinglePage())
    pages: dict[str, list[Answer]] = {"named-a": [], "named-b": [status(401)]}
    async with serve(forever=by_key(pages, json_page([{"id": 1}], total=1))) as server:
        connection = ApiConnection("ledger", server.url, "named-a named-b")
        for _ in range(3):
            await anext(read_pages(api, ITEMS, connection, limits=QUICK))
        results = [await load_table(at(warehouse, "loader"), connection, api, ITEMS) for _ in range(2)]
    first, second = (str(result.warning) for result in results)
    assert (
        "of the 2 keys in MEDALLION_SOURCE_LEDGER_KEY (or the block source-ledger), the API rejects number 2 (401)"
        in first
    )
    assert "rejects number" not in second
    assert "named-" not in first
    assert "named-" not in str(rows(warehouse, "select l::text from ops.loads as l"))


def mutual(server_file: Path, client_file: Path) -> ssl.SSLContext:
    """A server that knows one client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_file)
    return context


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The server's and the client's certificate, each with its key."""
    files = []
    for name in ("server", "client"):
        (tmp_path / name).mkdir()
        files.append(own_certificate(tmp_path / name))
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    connections._trusted.cache_clear()
    connections._proving.cache_clear()
    return files[0], files[1]


@pytest.mark.parametrize("by_path", [True, False])
async def test_a_client_certificate_is_presented(certificates: tuple[Path, Path], by_path: bool) -> None:
    _, client = certificates
    given = str(client) if by_path else client.read_text().replace("\n", "\\n")
    async with serve(json_page([1]), tls=mutual(*certificates)) as server:
        assert await records(NoAuth(), server, client_certificate=True, certificate=given) == [b"1"]


async def test_the_token_server_sees_the_certificate_too(certificates: tuple[Path, Path]) -> None:
    _, client = certificates
    auth = Login("/login", token="token")
    async with serve(raw(response(200, b'{"token": "a"}')), json_page([1]), tls=mutual(*certificates)) as server:
        assert await records(auth, server, client_certificate=True, certificate=client.read_text()) == [b"1"]


async def test_a_client_without_its_certificate_is_not_let_in(certificates: tuple[Path, Path]) -> None:
    async with serve(tls=mutual(*certificates)) as server:
        with pytest.raises(MedallionError):
            await records(Bearer(), server)
    assert server.requests == []


def encrypted(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(
        serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"canary")
    ).decode()


@pytest.mark.parametrize("given", [None, "/nowhere/canary.pem", "-----BEGIN CERTIFICATE-----\ncanary", "encrypted"])
async def test_a_certificate_that_cannot_be_used_is_named_by_its_variable(
    given: str | None, key: rsa.RSAPrivateKey, certificates: tuple[Path, Path]
) -> None:
    """One whose key has a password must not ask for it at the terminal of a worker."""
    if given == "encrypted":
        given = certificates[1].read_text().partition("-----BEGIN CERTIFICATE")[2]
        given = encrypted(key) + "-----BEGIN CERTIFICATE" + given
    async with serve() as server:
        with pytest.raises(ConfigurationError, match="MEDALLION_SOURCE_LEDGER_CERTIFICATE") as caught:
            await records(NoAuth(), server, client_certificate=True, certificate=given)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Signed("no function"),
        lambda: Login("/login"),
        lambda: Login("/login", token="a", cookie="b"),
        lambda: Login("login", token="a"),
        lambda: Login("/login", token="a", expires=(200,)),
        lambda: Login("/login", token="a", lifetime="0 s"),
        lambda: JwtBearer("token"),
        lambda: JwtBearer(lifetime="2 days"),
        lambda: Cookie("a b"),
        lambda: declared(NoAuth(), stores=("com",)),
        lambda: declared(NoAuth(), stores=("*.com",)),
        lambda: declared(NoAuth(), stores=("https://files.example.com",)),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_import(wrong: Callable[[], object]) -> None:
    with pytest.raises(DeclarationError):
        wrong()
