"""What leaves the house: everything the SDK would send is caught by a transport of ours and searched."""

import io
import json
from collections.abc import Iterator

import httpx
import psycopg
import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from flows.observe.sentry import WITHHELD, init
from flows.values.errors import WarehouseError

DSN = "https://publickey@errors.example.com/42"
SECRETS = ("hunter2", "ada@example.com", "key-9f8e7d", "4111-1111")


class Caught(Transport):
    """Keeps envelopes instead of sending them."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def text(self) -> str:
        """Everything that would have gone over the wire."""
        out = io.BytesIO()
        for envelope in self.envelopes:
            envelope.serialize_into(out)
        return out.getvalue().decode()


@pytest.fixture
def caught() -> Iterator[Caught]:
    transport = Caught()
    assert init(DSN, environment="test", transport=transport)
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def exception_values(caught: Caught) -> list[dict[str, str]]:
    payload = caught.envelopes[-1].get_event()
    assert payload is not None
    values: list[dict[str, str]] = json.loads(json.dumps(payload["exception"]["values"]))
    return values


def assert_nothing_leaked(caught: Caught) -> None:
    text = caught.text()
    assert caught.envelopes
    assert [secret for secret in SECRETS if secret in text] == []


def test_without_a_dsn_nothing_is_switched_on() -> None:
    assert not init(None, environment="test")
    assert not init("", environment="test")
    assert not sentry_sdk.get_client().is_active()


def test_our_own_error_arrives_readable_with_its_next_move(caught: Caught) -> None:
    try:
        raise WarehouseError("disk full", where="shop.baskets", fix="free space", retryable=False)
    except WarehouseError as error:
        sentry_sdk.capture_exception(error)
    (value,) = exception_values(caught)
    assert value["type"] == "WarehouseError"
    assert "free space" in value["value"]


def test_a_url_in_an_exception_does_not_leave(caught: Caught) -> None:
    url = "postgresql://loader:hunter2@db/warehouse"
    try:
        raise WarehouseError(f"cannot reach {url}", where="warehouse", fix="look")
    except WarehouseError as error:
        sentry_sdk.capture_exception(error)
    assert_nothing_leaked(caught)
    assert "postgresql://loader:***@db/warehouse" in caught.text()


def test_a_real_postgresql_error_leaves_its_type_and_not_its_detail(caught: Caught) -> None:
    try:
        raise psycopg.errors.UniqueViolation(
            'duplicate key value violates unique constraint "households_email"\n'
            "DETAIL:  Key (email)=(ada@example.com) already exists."
        )
    except psycopg.Error as error:
        sentry_sdk.capture_exception(error)
    assert_nothing_leaked(caught)
    assert [(value["type"], value["value"]) for value in exception_values(caught)] == [("UniqueViolation", WITHHELD)]


def test_the_cause_of_our_error_is_withheld_too(caught: Caught) -> None:
    """An exception chain is sent link by link; the first link being ours says nothing about the second."""
    try:
        try:
            raise ValueError("could not convert 'ada@example.com'")
        except ValueError as cause:
            raise WarehouseError("load failed", where="shop", fix="look") from cause
    except WarehouseError as error:
        sentry_sdk.capture_exception(error)
    assert_nothing_leaked(caught)
    assert {value["type"] for value in exception_values(caught)} == {"ValueError", "WarehouseError"}


def test_an_api_error_leaves_neither_headers_nor_query_nor_body(caught: Caught) -> None:
    request = httpx.Request(
        "POST",
        "https://api.example.com/v1?api_key=key-9f8e7d",
        headers={"X-API-Key": "key-9f8e7d"},
        json={"card": "4111-1111"},
    )
    response = httpx.Response(401, request=request, text="card 4111-1111")
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        sentry_sdk.capture_exception(error)
    assert_nothing_leaked(caught)


def test_local_variables_request_user_breadcrumbs_and_extras_do_not_leave(caught: Caught) -> None:
    """Each of these is on by default in the SDK, or one call away."""
    password = "hunter2"  # noqa: F841 - a local variable is what the SDK would send
    sentry_sdk.add_breadcrumb(message="ada@example.com")
    scope = sentry_sdk.get_current_scope()
    scope.set_user({"email": "ada@example.com"})
    scope.set_extra("row", "4111-1111")
    scope.set_context("row", {"email": "ada@example.com"})
    scope.set_tag("source", "shop")
    scope.set_tag("url", "postgresql://u:hunter2@h/d")
    try:
        raise KeyError("ada@example.com")
    except KeyError as error:
        sentry_sdk.capture_exception(error)
    scope.clear()
    assert_nothing_leaked(caught)
    assert '"source":"shop"' in caught.text().replace(": ", ":")


def test_a_message_is_masked_and_its_arguments_dropped(caught: Caught) -> None:
    sentry_sdk.capture_message("connecting with password=hunter2")
    sentry_sdk.capture_event({"logentry": {"message": "for %s", "params": ["ada@example.com"]}, "level": "error"})
    assert_nothing_leaked(caught)


def test_a_programming_error_keeps_its_words(caught: Caught) -> None:
    """They name attributes and types; without them the event would be of little use."""
    try:
        None.rows  # type: ignore[attr-defined]  # noqa: B018
    except AttributeError as error:
        sentry_sdk.capture_exception(error)
    assert "no attribute 'rows'" in exception_values(caught)[0]["value"]


def test_the_machine_and_its_command_line_stay_home(caught: Caught) -> None:
    try:
        raise TypeError("x")
    except TypeError as error:
        sentry_sdk.capture_exception(error)
    event = caught.envelopes[-1].get_event()
    assert event is not None
    assert not {"server_name", "modules", "extra", "breadcrumbs", "request", "user"} & set(event)
    assert all("vars" not in frame for frame in event["exception"]["values"][0]["stacktrace"]["frames"])
