"""What a declaration refuses at import, before anything is touched, and what it then tells the person who wrote it."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.declare.duration import parse_duration
from flows.kinds.api import Api, Endpoint, Parent, Since
from flows.kinds.postgres import Database, Table
from flows.values.errors import DeclarationError

A_TABLE = Table("orders", load=Replace())
AN_ENDPOINT = Endpoint("orders", path="/orders")

# What is declared, the words that say what is wrong with it, and those that say what to do.
REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    "a merge without a key": (lambda: Table("t", load=Merge()), "needs a key", 'add key="…"'),
    "an append without a cursor": (lambda: Table("t", load=Append()), "needs a cursor", "load=Replace()"),
    "an append by timestamp, with a lag and no key": (
        lambda: Table("t", load=Append(), cursor=Timestamp("at", lag="1 min")),
        "without a key",
        'add key="…"',
    ),
    "an append by sequence, with a lag and no key": (
        lambda: Table("t", load=Append(), cursor=Sequence("id", lag=10)),
        "without a key",
        'add key="…"',
    ),
    "an append by timestamp without a key": (
        lambda: Table("t", load=Append(), cursor=Timestamp("at")),
        "equal timestamps",
        'add key="…"',
    ),
    "a replace with a cursor": (
        lambda: Table("t", load=Replace(), cursor=Timestamp("at")),
        "never be used",
        "load=Merge()",
    ),
    "deletes of a replaced table": (
        lambda: Table("t", key="id", load=Replace(), deletes=True),
        "deletes=True",
        "remove deletes=True",
    ),
    "deletes of an appended table": (
        lambda: Table("t", key="id", load=Append(), cursor=Sequence("id"), deletes=True),
        "deletes=True",
        "remove deletes=True",
    ),
    "a share above one": (lambda: Table("t", load=Replace(), max_quarantined=5), "between 0 and 1", "0.01"),
    "a share of deletes above one": (
        lambda: Table("t", key="id", load=Merge(), deletes=True, max_deleted=50),
        "between 0 and 1",
        "0.1",
    ),
    "a floor below zero": (lambda: Table("t", load=Replace(), quarantine_floor=-1), "a number of rows", "5"),
    "a share below zero": (lambda: Table("t", load=Replace(), max_quarantined=-0.1), "between 0 and 1", "0.01"),
    "a share that is no number": (
        lambda: Table("t", load=Replace(), max_quarantined=float("nan")),
        "between 0 and 1",
        "0.01",
    ),
    "two rules of one name": (
        lambda: Table("t", load=Replace(), rules=(Rule("a", "x > 0"), Rule("a", "y > 0"))),
        "rule a is declared twice",
        "keep one rule",
    ),
    "a key column named twice": (
        lambda: Table("t", key=("id", "id"), load=Merge()),
        "key column id is declared twice",
        "keep one",
    ),
    "a key without a name": (lambda: Table("t", key="", load=Merge()), "is empty", "as the source has them"),
    "a schema without a name": (lambda: Table("t", schema="", load=Replace()), "is empty", "leave the argument out"),
    "a table's name in capitals": (lambda: Table("Orders", load=Replace()), "not a plain name", "lower-case"),
    "a table's name with a quote in it": (lambda: Table('o"; drop', load=Replace()), "not a plain name", "lower-case"),
    "a table's name of 41 letters": (lambda: Table("o" * 41, load=Replace()), "not a plain name", "at most 40"),
    "a table's name ending in a line break": (lambda: Table("o\n", load=Replace()), "not a plain name", "lower-case"),
    "a timestamp's lag that is no length of time": (
        lambda: Timestamp("at", lag="10 minuets"),
        "'10 minuets' is not a duration",
        "'10 min'",
    ),
    "an API's lag that is no length of time": (
        lambda: Since("since", field="at", lag="soon"),
        "'soon' is not a duration",
        "'10 min'",
    ),
    "a sequence's lag below zero": (lambda: Sequence("id", lag=-1), "skip rows", "0 or more"),
    "a min_share given in percent": (lambda: Replace(min_share=50), "between 0 and 1", "0.5"),
    "drift to quarantine from an append without a key": (
        lambda: Table("t", load=Append(), cursor=Sequence("id"), on_drift="quarantine"),
        "are read again once they fit",
        'add key="…"',
    ),
    "an overwrite by nothing": (
        lambda: Overwrite(by="", every="day"),
        "partition column is not declared",
        'by="sold_at"',
    ),
    "an overwrite by a quarter": (
        lambda: Overwrite(by="at", every="quarter"),  # type: ignore[arg-type]
        "'quarter' is unknown",
        "day, week, month, year",
    ),
    "an overwrite of no partition": (
        lambda: Overwrite(by="at", every="day", last=0),
        "must be at least 1",
        "how many partitions",
    ),
    "an overwrite's share in percent": (
        lambda: Overwrite(by="at", every="day", min_share=50),
        "between 0 and 1",
        "0.5",
    ),
    "deletes of an overwritten table": (
        lambda: Table("t", key="id", load=Overwrite(by="at", every="day"), deletes=True),
        "remove them anyway",
        "remove deletes=True",
    ),
    "an overwrite of a database that is not PostgreSQL": (
        lambda: Database(
            "d", connection="d", engine="mysql", tables=[Table("t", load=Overwrite(by="at", every="day"))]
        ),
        "for PostgreSQL only (t of mysql)",
        "load=Replace()",
    ),
    "an API's overwrite": (
        lambda: Endpoint("e", path="/e", load=Overwrite(by="at", every="day")),  # type: ignore[arg-type]
        "pages may repeat",
        "load=Merge()",
    ),
    "a rule of two statements": (
        lambda: Rule("a", "true; drop table x"),
        "not a single SQL expression",
        "quantity >= 0",
    ),
    "a rule of nothing": (lambda: Rule("a", "  "), "not a single SQL expression", "quantity >= 0"),
    "a rule's name with a space": (lambda: Rule("a b", "true"), "not a plain name", "lower-case"),
    "a database without tables": (lambda: Database("d", connection="d", tables=[]), "no tables", "at least one Table"),
    "two tables of one name": (
        lambda: Database("d", connection="d", tables=[A_TABLE, A_TABLE]),
        "table orders is declared twice",
        "keep one table",
    ),
    "a source's name with a hyphen": (
        lambda: Database("my-shop", connection="d", tables=[A_TABLE]),
        "not a plain name",
        "underscores",
    ),
    "a connection's name with a slash": (
        lambda: Database("d", connection="a/b", tables=[A_TABLE]),
        "not a plain name",
        "underscores",
    ),
    "children whose path lacks what raw tells them apart by": (
        lambda: Api(
            "a",
            connection="a",
            endpoints=[
                Endpoint("lines", path="/lines", key=("shop", "id")),
                Endpoint("notes", path="/lines/{id}/notes", parent=Parent("lines", column="shop")),
            ],
        ),
        "its request lacks {shop}",
        "the first column of lines's key",
    ),
    "an endpoint's relative path": (lambda: Endpoint("e", path="v1/e"), "not absolute", "start it with /"),
    "a key type that hashes differently at both ends": (
        lambda: Endpoint("e", path="/e", key_type="numeric"),
        "'numeric' is unknown",
        "text, bigint, uuid",
    ),
    "an API's append": (lambda: Endpoint("e", path="/e", load=Append()), "pages may repeat", "load=Merge()"),
    "an API's replace with a cursor": (
        lambda: Endpoint("e", path="/e", load=Replace(), cursor=Since("since", field="at")),
        "never be used",
        "remove the cursor",
    ),
    "an endpoint's share above one": (
        lambda: Endpoint("e", path="/e", max_quarantined=1.5),
        "between 0 and 1",
        "0.01",
    ),
    "two rules of one name for an endpoint": (
        lambda: Endpoint("e", path="/e", rules=(Rule("a", "true"), Rule("a", "true"))),
        "rule a is declared twice",
        "keep one rule",
    ),
    "an API without endpoints": (lambda: Api("a", connection="a", endpoints=[]), "no endpoints", "at least one"),
    "two endpoints of one name": (
        lambda: Api("a", connection="a", endpoints=[AN_ENDPOINT, AN_ENDPOINT]),
        "endpoint orders is declared twice",
        "keep one endpoint",
    ),
    "a rate of nothing": (
        lambda: Api("a", connection="a", endpoints=[AN_ENDPOINT], rate=0),
        "must be above 0",
        "requests per second",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_contradicts_itself_is_refused_with_the_next_move(case: str) -> None:
    declare, what, fix = REFUSED[case]
    with pytest.raises(DeclarationError) as refusal:
        declare()
    assert what in refusal.value.what
    assert fix in refusal.value.fix
    assert (refusal.value.exit_code, refusal.value.retryable) == (2, False)


@pytest.mark.parametrize(
    "table",
    [
        Table("t", load=Replace()),
        Table("t", key="id", load=Merge(), deletes=True),
        Table("t", key=("a", "b"), cursor=Timestamp("at", lag="10 min"), load=Merge(), max_quarantined=1),
        Table("t", cursor=Sequence("id"), load=Append()),
        Table("t", key="id", cursor=Timestamp("at", lag="1 h"), load=Append()),
        Table("t", key="id", cursor=Sequence("id", lag=100), load=Append()),
        Table("t", load=Replace(min_share=0)),
        Table("t", load=Overwrite(by="at", every="day")),
        Table("t", key="id", load=Overwrite(by="at", every="month", last=3), cursor=Timestamp("changed_at")),
        Table("t", load=Overwrite(by="at", every="week"), cursor=Timestamp("changed_at", lag="1 h")),
    ],
    ids=repr,
)
def test_a_declaration_that_makes_sense_is_taken(table: Table) -> None:
    assert Database("d", connection="d", tables=[table]).table("t") is table


def test_a_table_nobody_declared_is_answered_with_those_there_are() -> None:
    database = Database("shop", connection="shop", tables=[A_TABLE, Table("stores", load=Replace())])
    with pytest.raises(
        DeclarationError, match=r"source shop: table 'order' is not declared.* use one of orders, stores"
    ):
        database.table("order")
    api = Api("crm", connection="crm", endpoints=[AN_ENDPOINT])
    with pytest.raises(DeclarationError, match=r"source crm: table 'order' is not declared.* use one of orders"):
        api.table("order")


def test_what_was_declared_cannot_be_changed_afterwards() -> None:
    """Declarations are shared by every run of the process; the list given to one stays the caller's own."""
    tables = [A_TABLE]
    database = Database("shop", connection="shop", tables=tables)
    tables.clear()
    assert database.tables == (A_TABLE,)
    with pytest.raises(AttributeError):
        database.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("10 min", timedelta(minutes=10)),
        ("0 s", timedelta()),
        ("1.5h", timedelta(minutes=90)),
        (" 2 days ", timedelta(days=2)),
        ("1 day", timedelta(days=1)),
        ("30 sec", timedelta(seconds=30)),
        ("2 hours", timedelta(hours=2)),
    ],
)
def test_lengths_of_time_are_read_as_people_write_them(text: str, length: timedelta) -> None:
    assert parse_duration(text, "here") == length


@pytest.mark.parametrize("text", ["", "10", "min", "-5 min", "10 MIN", "1e3 s", "10 min ago", "1 h 30 min", "10 weeks"])
def test_anything_else_is_no_length_of_time(text: str) -> None:
    with pytest.raises(DeclarationError, match="is not a duration"):
        parse_duration(text, "here")
