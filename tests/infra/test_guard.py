"""What the stack's servers answer to somebody who is not let in: a program without the auth string, a web page from
elsewhere, and a name that somebody points to this machine."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from infra.local import ports
from infra.local.commerce import CommerceApi

FOREIGN_PAGE = {"Origin": "http://evil.example"}
#: Another program's page on this machine, perhaps another account's.
PAGE_OF_A_NEIGHBOUR = {"Origin": "http://127.0.0.1:3000"}
REBOUND_NAME = {"Host": "evil.example:4200"}

#: Method and path of each kind of endpoint that gives something away, or changes something.
SECRET = [
    ("POST", "/api/block_documents/filter"),  # passwords in clear, with include_secrets
    ("POST", "/api/flow_runs/filter"),
    ("POST", "/api/logs/filter"),
    ("POST", "/api/artifacts/filter"),
    ("POST", "/api/events/filter"),
    ("POST", "/api/variables/filter"),
    ("GET", "/api/admin/settings"),
    ("GET", "/api/admin/version"),
    ("POST", "/api/admin/database/clear"),
    ("POST", "/api/flows/"),
    ("GET", "/api/metrics"),
    ("GET", "/api/docs"),
]
#: What anybody on this machine may ask: nothing of it depends on what the stack holds.
OPEN = [("GET", "/api/health"), ("GET", "/api/ready"), ("GET", "/"), ("GET", "/ui-settings"), ("GET", "/openapi.json")]
SOCKETS = [
    "/api/events/out",
    "/api/events/in",
    "/api/logs/out",
    "/api/task_runs/subscriptions/scheduled",
    "/api/work_pools/local/workers/connect",
]


@pytest.fixture
def url(prefect_server: str) -> str:
    return prefect_server.removesuffix("/api")


def asked(method: str, url: str, headers: dict[str, str], auth: str | None = None) -> httpx.Response:
    user, _, password = (auth or "").partition(":")
    body = {"json": {"include_secrets": True}} if method == "POST" else {}
    with httpx.Client(trust_env=False, timeout=60, auth=(user, password) if auth else None) as client:
        return client.request(method, url, headers=headers, **body)  # type: ignore[arg-type]  # one kind of body


@pytest.mark.parametrize(("method", "path"), SECRET, ids=[path for _, path in SECRET])
def test_without_the_auth_string_nothing_is_given_away(url: str, prefect_auth: str, method: str, path: str) -> None:
    answer = asked(method, url + path, {})
    assert (answer.status_code, answer.json()) == (401, {"exception_message": "Unauthorized"})
    assert asked(method, url + path, {}, "medallion:guessed").status_code == 401
    assert asked(method, url + path, {"Authorization": f"Bearer {prefect_auth}"}).status_code == 401
    # With it, the same question is answered: the door is not simply shut. (The database is not cleared: no `confirm`.)
    assert asked(method, url + path, {}, prefect_auth).status_code not in (401, 403, 421)


@pytest.mark.parametrize(
    "headers", [FOREIGN_PAGE, PAGE_OF_A_NEIGHBOUR, REBOUND_NAME], ids=["page", "neighbour", "name"]
)
def test_a_foreign_page_is_refused_everywhere_even_with_the_auth_string(
    url: str, prefect_auth: str, headers: dict[str, str]
) -> None:
    for method, path in [*SECRET, *OPEN]:
        answer = asked(method, url + path, headers, prefect_auth)
        assert answer.status_code == (421 if "Host" in headers else 403), path
        assert "access-control-allow-origin" not in answer.headers
    before = {**headers, "Access-Control-Request-Method": "POST"}
    preflight = asked("OPTIONS", f"{url}/api/block_documents/filter", before)
    assert "access-control-allow-origin" not in preflight.headers


def test_a_program_and_the_servers_own_page_are_answered(url: str, prefect_auth: str) -> None:
    """The control for the refusals above, by each name that is ours."""
    port = urlsplit(url).port
    for headers in (
        {},
        {"Origin": url},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        {"Host": "localhost:9999", "Origin": "http://localhost:9999"},  # a port that is forwarded, as by ssh -L
        {"Host": f"10.0.0.7:{port}"},
    ):
        assert asked("POST", f"{url}/api/flow_runs/filter", headers, prefect_auth).status_code == 200, headers
    for method, path in OPEN:
        assert asked(method, url + path, {}).status_code == 200, path


def test_pages_reach_no_other_server_and_are_framed_by_none(url: str) -> None:
    """Prefect's load a script that reports to its makers what a person does, whatever the settings say."""
    policy = asked("GET", f"{url}/", {}).headers["content-security-policy"]
    assert f"connect-src 'self' {url}" in policy
    assert "frame-ancestors 'none'" in policy


def opened(url: str, path: str, headers: dict[str, str]) -> ClientConnection:
    at = urlsplit(url)
    # Whatever name is asked for, the connection goes to this server.
    to = socket.create_connection((at.hostname or "", at.port or 0), timeout=60)
    origin = Origin(headers["Origin"]) if "Origin" in headers else None
    return connect(
        f"ws://{headers.get('Host', at.netloc)}{path}",
        sock=to, origin=origin, subprotocols=[Subprotocol("prefect")], proxy=None, open_timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("path", SOCKETS)
def test_websockets_are_as_closed_as_the_rest(url: str, prefect_auth: str, path: str) -> None:
    for headers in (FOREIGN_PAGE, PAGE_OF_A_NEIGHBOUR, REBOUND_NAME):
        with pytest.raises(InvalidStatus) as refused:
            opened(url, path, headers)
        assert refused.value.response.status_code == 403
    for message in ({"type": "auth"}, {"type": "auth", "token": "medallion:guessed"}, {"type": "filter", "filter": {}}):
        with opened(url, path, {}) as client:
            client.send(json.dumps(message))
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=60)
    # The control: with the auth string, from a program or from the server's own page.
    for headers in ({}, {"Origin": url}):
        with opened(url, path, headers) as client:
            client.send(json.dumps({"type": "auth", "token": prefect_auth}))
            assert json.loads(client.recv(timeout=60)) == {"type": "auth_success"}


@pytest.fixture
def commerce(tmp_path: Path) -> Iterator[str]:
    service = CommerceApi(tmp_path / "commerce", tmp_path / "record", tmp_path / "log", "k" * 20)
    running = service.start(ports.any_free())
    try:
        service.wait(running)
        yield f"http://127.0.0.1:{running.port}"
    finally:
        service.stop()


def test_the_commerce_api_answers_neither_foreign_pages_nor_programs_without_the_key(commerce: str) -> None:
    key = {"X-API-Key": "k" * 20}
    assert asked("GET", f"{commerce}/v1/campaigns", {}).status_code == 401
    for headers, status in ((FOREIGN_PAGE, 403), (PAGE_OF_A_NEIGHBOUR, 403), (REBOUND_NAME, 421), ({}, 200)):
        assert asked("GET", f"{commerce}/v1/campaigns", {**headers, **key}).status_code == status
        assert asked("GET", f"{commerce}/healthz", headers).status_code == status
