"""Addresses, as logs and errors may show them: never with the password."""

import pytest

from flows.values.connection import ApiConnection, DatabaseConnection

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@db.example.com/shop",
        f"postgresql://ann:{SECRET}@db.example.com:6543/shop?sslmode=verify-full",
        f"postgresql://ann@db.example.com/shop?password={SECRET}",
        # Nobody escapes the password they paste; its pieces then stand where parsers expect other things.
        f"postgresql://ann:12/{SECRET}@db.example.com/shop",
        f"postgresql://ann:{SECRET}/x@db.example.com/shop",
        f"postgresql://ann:12?{SECRET}@db.example.com/shop",
        f"postgresql://ann:12#{SECRET}@db.example.com/shop",
        f"postgresql://ann:p@{SECRET}@db.example.com/shop",
        f"postgresql://ann:{SECRET}@one:5432,two:5432/shop?target_session_attrs=primary",
        f"postgresql://ann:1,2/{SECRET}@db.example.com/shop",
        f"postgresql://ann:1@x,{SECRET}/y@db.example.com/shop",
    ],
)
def test_a_database_address_is_shown_without_its_password(url: str) -> None:
    connection = DatabaseConnection("shop", url)
    assert SECRET not in connection.safe_address
    assert SECRET not in repr(connection)
    assert SECRET not in f"{connection}"


def test_a_database_address_tells_who_goes_where() -> None:
    url = "postgresql://ann%40work:x@db.example.com:6543/shop"
    assert DatabaseConnection("shop", url).safe_address == "ann@work@db.example.com:6543/shop"
    assert DatabaseConnection("shop", "postgresql://ann@h/shop").safe_address == "ann@h:5432/shop"
    either = "postgresql://ann:x@one:6001,two:6002/shop?target_session_attrs=primary"
    assert DatabaseConnection("shop", either).safe_address == "ann@one:6001,two:6002/shop"


def test_an_api_is_shown_without_its_key_or_credentials_in_its_address() -> None:
    connection = ApiConnection("crm", f"https://ann:{SECRET}@api.example.com?key={SECRET}", key=SECRET)
    assert SECRET not in repr(connection)
