"""What is masked, and what must stay readable."""

import pytest

from flows.observe.redaction import redact, redact_value

SECRET = "s3cr3t-W0rd"


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql://loader:{SECRET}@db.internal:5432/warehouse",
        f"postgresql://loader:{SECRET}@with@ats@db/warehouse",
        f"GET https://api.example.com/v1/orders?limit=10&api_key={SECRET}&page=2",
        f"GET https://api.example.com/v1/orders?access_token={SECRET}",
        f"headers: {{'X-API-Key': '{SECRET}', 'accept': '*/*'}}",
        f'{{"X-API-Key": "{SECRET}"}}',
        f"X-API-Key: {SECRET}",
        f"[(b'x-api-key', b'{SECRET}')]",
        f"Authorization: Bearer {SECRET}",
        f"'authorization': 'Basic {SECRET}=='",
        f"host=db user=loader password={SECRET} dbname=warehouse",
        f"MEDALLION_WAREHOUSE_PASSWORD={SECRET}",
        f'"client_secret": "{SECRET}"',
        f"https://{SECRET}@errors.example.com/42",
        f"connecting with password='{SECRET} and spaces'",
    ],
)
def test_a_credential_is_masked_in_every_form_it_travels(text: str) -> None:
    assert SECRET not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        'duplicate key value violates unique constraint "pk"\nDETAIL:  Key (email)=(ada@example.com) already exists.',
        "DETAIL:  Failing row contains (1, ada@example.com, 2017-01-01).",
        "Failing row contains (1, ada@example.com, (x), 2017-01-01).",
        "Key (email, id)=(ada@example.com, 1) already exists.",
        'CONTEXT:  COPY households, line 3, column email: "ada@example.com"',
        'invalid input syntax for type integer: "ada@example.com"',
        'invalid input value for enum brand_kind: "ada@example.com"',
        'value "ada@example.com" is out of range for type integer',
        'date/time field value out of range: "ada@example.com"',
        "LINE 1: select 'ada@example.com'::int",
        "STATEMENT:  update households set email = 'ada@example.com'",
    ],
)
def test_values_of_rows_in_postgresql_messages_are_masked(text: str) -> None:
    assert "ada" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "published shop.baskets: 69,013 rows in 1.2 s",
        "GET https://api.example.com/v1/orders?limit=10&page=2 answered 503",
        "postgresql://loader@db.internal:5432/warehouse does not answer",
        'column "quantity" does not exist',
        "primary key basket_id; a retry can help",
        "http://127.0.0.1:4200/api",
        "see runbook: docs/runbooks/authentication.md",
    ],
)
def test_what_an_operator_needs_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_redacting_twice_is_redacting_once() -> None:
    once = redact(f"DETAIL: Key (a)=(b)\npostgresql://u:{SECRET}@h/d password={SECRET} Bearer {SECRET}")
    assert redact(once) == once


def test_nested_values_are_masked_by_name_and_by_form() -> None:
    clean = redact_value({"api_key": [1, 2], "deep": [{"url": f"postgresql://u:{SECRET}@h/d"}], "rows": 3, "ok": None})
    assert clean == {"api_key": "***", "deep": [{"url": "postgresql://u:***@h/d"}], "rows": 3, "ok": None}
