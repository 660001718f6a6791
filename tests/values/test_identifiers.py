"""Names and literals go into SQL and come back as they were, whatever is in them: tried on a real PostgreSQL."""

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.values.identifiers import qualified, quote_identifier, quote_literal
from tests.conftest import TestCluster

FUZZ = settings(max_examples=60, deadline=None)

NASTY = [
    "'",
    '"',
    "\\",
    "''",
    "\\'",
    '"; drop table t; --',
    "'; drop table t; --",
    "$$",
    "%s",
    "$1",
    "\n",
    "\t",
    "é",
    "😀",
]
PIECES = st.lists(
    st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))),
    max_size=6,
).map("".join)


def scalar(cluster: TestCluster, query: str) -> object:
    row = cluster.connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@FUZZ
@given(text=PIECES)
def test_a_literal_comes_back_as_it_went_in(cluster: TestCluster, text: str) -> None:
    assert scalar(cluster, f"select {quote_literal(text)}") == text


@FUZZ
@given(text=PIECES)
def test_a_literal_is_the_same_under_the_old_reading_of_backslashes(cluster: TestCluster, text: str) -> None:
    """A source may be old, or set so: with standard_conforming_strings off, a plain '\\' would eat the quote."""
    with psycopg.connect(cluster.url("medallion_admin", "postgres"), autocommit=True) as connection:
        connection.execute("set standard_conforming_strings = off; set escape_string_warning = off")
        row = connection.execute(f"select {quote_literal(text)}").fetchone()
    assert row == (text,)


@FUZZ
@given(name=PIECES.filter(lambda name: name != "").map(lambda name: name.encode()[:63].decode(errors="ignore")))
def test_an_identifier_comes_back_as_it_went_in(cluster: TestCluster, name: str) -> None:
    cursor = cluster.connection.execute(f"select 1 as {quote_identifier(name)}")
    assert cursor.description is not None
    assert cursor.description[0].name == name


@pytest.mark.parametrize("attempt", ['t" cascade; drop table t; --', "t'; drop table t; --", 't""; drop table t; --'])
def test_an_attempt_to_break_out_does_nothing(cluster: TestCluster, attempt: str) -> None:
    with psycopg.connect(cluster.url("medallion_admin", "postgres")) as connection:
        connection.execute("create temporary table t (a text)")
        connection.execute(f"insert into t values ({quote_literal(attempt)})")
        connection.execute(f"alter table t add column {quote_identifier(attempt)} text")
        rows = connection.execute("select a from t").fetchall()
        connection.rollback()
    assert rows == [(attempt,)]


def test_a_qualified_name_keeps_its_dots_to_itself(cluster: TestCluster) -> None:
    assert qualified("a.b", 'c"d') == '"a.b"."c""d"'
    assert (
        scalar(cluster, f"select to_regclass({quote_literal(qualified('pg_catalog', 'pg_class'))})::text") == "pg_class"
    )


@pytest.mark.parametrize("text", ["", "a\x00b"])
def test_what_no_identifier_can_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must not be empty or contain NUL"):
        quote_identifier(text)


def test_what_no_literal_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="must not contain NUL"):
        quote_literal("a\x00b")
