"""A declared query is one statement that reads, whatever stands in its texts and comments."""

import pytest

from flows.declare import Append, Replace, Sequence, TransactionId
from flows.declare.query import body, normalized, words
from flows.kinds.databases import Database as OtherDatabase
from flows.kinds.postgres import Database, Table
from flows.values.errors import DeclarationError


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("select 1", "select 1"),
        ("select 1;", "select 1"),
        ("select 1 ; ; -- done\n/* and ; so */ ;", "select 1"),
        ("-- totals; of all\nselect 1 -- the last", "-- totals; of all\nselect 1"),
        ("select ';', '--', \"a;b\", $$;$$, $x$ $$ ; $x$, E'it\\'s; ''so''', '\\'", None),
        ("select 'it''s', ($1)", None),
        ("with a as (select 1) select * from a /* nested /* ; */ ) */", "with a as (select 1) select * from a"),
        ("(select 1) union (select 2)", None),
        ("values (1), (2)", None),
        ("table orders", None),
        ("select a$b$c from t", None),
    ],
)
def test_a_statement_that_reads_is_taken_without_what_follows_it(query: str, read: str | None) -> None:
    assert body(query, "table t") == (query if read is None else read)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select 1; select 2", "more than one statement"),
        ("select 1; drop table orders; --", "more than one statement"),
        ("select 1) as x; delete from orders; select (1", "closed that was not opened"),
        ("select 1) union (select 2", "closed that was not opened"),
        ("select (1", "a bracket is not closed"),
        ("select (1; select 2)", "a semicolon is inside"),
        ("select 'open", "a quoted text is not closed"),
        ("select E'open\\'", "a quoted text is not closed"),
        ('select "open', "a quoted text is not closed"),
        ("select $a$ open $b$", "a text in dollars is not closed"),
        ("select 1 /* open /* closed */", "a comment is not closed"),
        ("delete from orders returning id", "it begins with delete"),
        ("insert into orders values (1)", "it begins with insert"),
        ("explain select 1", "it begins with explain"),
        (" ; -- nothing", "it begins with nothing"),
        ("   ", "it begins with nothing"),
    ],
)
def test_anything_else_is_refused_when_it_is_declared(query: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Table("totals", load=Replace(), query=query)


@pytest.mark.parametrize(
    "declared",
    [{"schema": "audit"}, {"source_name": "Orders"}, {"load": Append(), "key": "id", "cursor": TransactionId()}],
)
def test_what_only_a_table_has_is_refused_beside_a_query(declared: dict[str, object]) -> None:
    with pytest.raises(DeclarationError, match=r"query|rows of a query"):
        Table("totals", query="select 1 as id", **({"load": Replace()} | declared))  # type: ignore[arg-type]


def test_a_query_of_another_database_is_refused_with_the_way_out() -> None:
    table = Table("totals", query="select 1 as id", key="id", cursor=Sequence("id"), load=Append())
    Database("shop", connection="shop", tables=[table])
    with pytest.raises(DeclarationError, match="PostgreSQL only") as refused:
        OtherDatabase("erp", connection="erp", engine="mysql", tables=[table])
    assert "view" in refused.value.fix


def test_layout_and_comments_are_no_part_of_what_a_query_says() -> None:
    assert normalized("select a,\n  b -- both\nfrom t") == normalized("select a, b from t")
    assert normalized("select 'a  b'") != normalized("select 'a b'")
    assert normalized("select a from t") != normalized("select A from t")


def test_words_in_texts_and_names_are_none_of_the_query() -> None:
    assert words("select 'current_user', \"user\" -- session_user\nfrom Orders") == {"select", "from", "orders"}
