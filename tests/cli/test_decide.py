"""`medallion decide` on the terminal: what it shows, who may answer, what it records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import psycopg
import pytest
from typer.testing import CliRunner

from flows.access.addresses import connect
from flows.cli.app import app
from flows.declare import Ask
from flows.state import decisions
from flows.state.decisions import Origin
from flows.values.connection import DatabaseConnection
from flows.values.question import Question
from flows.values.settings import settings
from tests.conftest import TestCluster, TestDatabase

DELETES = Question("deletes", {"allowed share": 0.1}, {"deleted": 300})
WHAT = "300 of 1000 rows of raw were deleted at the source"


@pytest.fixture
def db(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDatabase]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setattr("flows.cli.decide.prepare", lambda **_: None)
    settings.cache_clear()
    yield warehouse
    settings.cache_clear()


def ask(warehouse: TestDatabase, question: Question = DELETES, declared: Ask | None = None) -> int:
    async def do() -> int:
        address = DatabaseConnection("warehouse", warehouse.url("loader"))
        async with connect(address, side="warehouse") as connection, connection.transaction():
            origin = Origin("shop.[red]facts", "shop", "facts")
            return (await decisions.raise_question(connection, question, WHAT, origin, declared or Ask()))[0]

    return asyncio.run(do())


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["decide", *arguments])
    assert done.exit_code == code, done.output + repr(done.exception)
    return " ".join(done.output.split())


def test_a_question_is_listed_shown_and_answered_with_name_and_reason(db: TestDatabase) -> None:
    assert "no decision is open" in run("list")
    number = ask(db)

    listed = run("list", code=5)
    assert "shop.[red]facts" in listed
    assert "1 open decision" in listed
    shown = run("show", str(number))
    for part in (WHAT, "deleted 300", f"plan {DELETES.digest}", "requested by", "without an answer it is refused"):
        assert part in shown

    done = run("answer", str(number), "accept", "--by", "[b]anna", "--reason", "ticket 7")

    assert f"decision {number}: accepted by [b]anna; the next run goes on" in done
    after = run("show", str(number))
    assert "ticket 7" in after
    assert "not yet" in after
    (one,) = json.loads(run("list", "--closed", "1 day", "--json"))
    assert (one["status"], one["answered_by"], one["reason"]) == ("accepted", "[b]anna", "ticket 7")


def test_the_second_answer_hears_who_was_first(db: TestDatabase) -> None:
    number = ask(db)
    run("answer", str(number), "refuse", "--by", "anna", "--reason", "not ours")
    assert "is closed: it was refused by anna" in run(
        "answer", str(number), "accept", "--by", "ben", "--reason", "ours", code=1
    )


def test_an_answer_to_another_plan_than_was_shown_is_refused(db: TestDatabase) -> None:
    number = ask(db)
    later = ask(db, Question("deletes", {"allowed share": 0.1}, {"deleted": 301}))

    assert "its plan has changed" in run("answer", str(number), "accept", "--reason", "fine", code=1)
    done = CliRunner().invoke(
        app, ["decide", "answer", str(later), "accept", "--plan", DELETES.digest, "--reason", "x"]
    )

    assert "the plan is" in str(done.exception)
    assert run("list", code=5)


@pytest.fixture
def admin(db: TestDatabase, cluster: TestCluster) -> Iterator[psycopg.Connection]:
    """A superuser's transaction with a person's role `zoe`, an approver. Roles belong to all databases of the tests, so
    nobody else ever sees it."""
    number = ask(db)
    with psycopg.connect(cluster.connection.info.dsn, dbname=db.name, password=cluster.connection.info.password) as one:
        one.execute("create role zoe login in role medallion_approver")
        one.execute("select set_config('test.number', %s, true)", [str(number)])
        yield one
        one.rollback()


ANSWER = "select ops.answer_decision(current_setting('test.number')::bigint, 'accept', 'anna', 'fine', 'command')"


def test_once_roles_are_named_nobody_else_answers(admin: psycopg.Connection) -> None:
    admin.execute("set session authorization medallion_loader")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only members of medallion_approver"):
        admin.execute(ANSWER)


def test_an_approver_answers_in_their_own_name_and_may_do_nothing_else(admin: psycopg.Connection) -> None:
    admin.execute("set session authorization zoe")

    admin.execute(ANSWER)

    answered = admin.execute("select answered_by, by_role, status from ops.decisions").fetchall()
    assert answered == [("zoe", "zoe", "accepted")]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        admin.execute("update ops.decisions set used_at = now()")


def test_an_approver_needs_no_other_right_to_look(db: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    number = ask(db)
    monkeypatch.setenv("MEDALLION_WAREHOUSE_APPROVER_URL", db.url("loader"))
    settings.cache_clear()
    monkeypatch.setattr("flows.state.ledger.ensure_schema", None)
    assert WHAT in run("show", str(number))


def test_other_roles_neither_answer_nor_forge_answers(db: TestDatabase) -> None:
    number = ask(db)
    for role in ("transformer", "reader"):
        with psycopg.connect(db.url(role)) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select ops.answer_decision(%s, 'accept', 'eve', 'why', 'command')", [number])
