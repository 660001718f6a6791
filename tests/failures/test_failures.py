"""Every failure is classed, so that the right thing is done about it; and told in words that hold no value of a row."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import pytest

from flows.access.addresses import connect
from flows.declare import Merge
from flows.failures.diagnose import STRATEGIES, Strategy, diagnose, explain
from flows.kinds.postgres import Table
from flows.values.connection import DatabaseConnection
from flows.values.errors import (
    ConfigurationError,
    DataRefused,
    FailureClass,
    MedallionError,
    SchemaDrift,
    SourceError,
    SourceUnavailable,
    WarehouseError,
)
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds, run_sql

Side = Literal["source", "warehouse"]

CANARY = "canary-7f3a"


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


def known_to_asyncpg() -> Iterator[type[asyncpg.PostgresError]]:
    for kind in vars(asyncpg.exceptions).values():
        if isinstance(kind, type) and issubclass(kind, asyncpg.PostgresError) and kind.sqlstate:
            yield kind


# A state of each class that PostgreSQL has, and what it means to us.
CLASSES = {
    "08006": FailureClass.TRANSIENT,  # connection failure
    "08P01": FailureClass.PERMANENT,  # a start-up parameter that a pooler rejects
    "25006": FailureClass.TRANSIENT,  # read-only: the primary has become a standby
    "40001": FailureClass.TRANSIENT,  # serialization failure
    "40P01": FailureClass.TRANSIENT,  # deadlock
    "53300": FailureClass.TRANSIENT,  # too many connections
    "55P03": FailureClass.TRANSIENT,  # lock timeout
    "57014": FailureClass.RESOURCE,  # statement timeout, in whatever language the server says so
    "57P01": FailureClass.TRANSIENT,  # shut down by its administrator
    "57P02": FailureClass.TRANSIENT,
    "57P03": FailureClass.TRANSIENT,  # still starting
    "53000": FailureClass.RESOURCE,
    "53100": FailureClass.RESOURCE,  # disk full
    "53200": FailureClass.RESOURCE,  # out of memory
    "22P02": FailureClass.DATA,  # not of its type
    "22003": FailureClass.DATA,  # out of range
    "22021": FailureClass.DATA,  # not in its encoding
    "23502": FailureClass.DATA,  # null
    "23505": FailureClass.DATA,  # repeated key
    "23514": FailureClass.DATA,  # check constraint
    "42P01": FailureClass.SCHEMA,  # no such table
    "42703": FailureClass.SCHEMA,  # no such column
    "42804": FailureClass.SCHEMA,  # another type
    "42501": FailureClass.PERMANENT,  # not permitted
    "28P01": FailureClass.PERMANENT,  # password
    "28000": FailureClass.PERMANENT,
    "3D000": FailureClass.PERMANENT,  # no such database
    "0A000": FailureClass.PERMANENT,
    "54000": FailureClass.PERMANENT,
    "58030": FailureClass.PERMANENT,
    "P0001": FailureClass.PERMANENT,
    "XX001": FailureClass.PERMANENT,  # corrupted
    "HV000": FailureClass.PERMANENT,
}


def postgres_error(state: str, message: str = CANARY) -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": message, "S": "ERROR"})


@pytest.mark.parametrize("side", ["source", "warehouse"])
@pytest.mark.parametrize("state", CLASSES)
def test_a_state_is_classed_by_what_can_be_done_about_it(state: str, side: str) -> None:
    failure = diagnose(postgres_error(state), "shop.prices", side)
    assert failure.failure_class is CLASSES[state]
    assert (failure.strategy, failure.severity) == STRATEGIES[CLASSES[state]]
    assert failure.error.retryable is (CLASSES[state] is FailureClass.TRANSIENT)
    assert state in failure.error.what
    assert side in failure.error.what
    assert failure.error.fix


def test_every_state_there_is_gets_a_class_a_strategy_and_a_next_move() -> None:
    kinds = list(known_to_asyncpg())
    assert len(kinds) > 200
    for kind in kinds:
        failure = diagnose(kind("message"), "here")
        assert failure.failure_class in STRATEGIES
        assert failure.error.exit_code == 3
        assert failure.error.fix
        assert failure.error.retryable is (failure.strategy is Strategy.RETRY)


def test_every_class_has_a_strategy() -> None:
    assert set(STRATEGIES) == set(FailureClass)


def test_the_first_line_is_passed_on_only_where_it_speaks_of_objects() -> None:
    """A state that nobody thought of is not passed on: extensions and functions make up their own."""
    telling = {kind.sqlstate[:2] for kind in known_to_asyncpg() if CANARY in str(explain(kind(CANARY), "here"))}
    assert telling == {"08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
    for state in ("22P02", "23505", "P0001", "XX000", "HV000", "45000", "ABC12", "38000"):
        assert CANARY not in str(explain(postgres_error(state), "here"))


PROVOKED = {
    "22P02": f"select '{CANARY}'::int",
    "22007": f"select '{CANARY}'::date",
    "22001": f"insert into c values (1, '{CANARY}-{CANARY}-{CANARY}')",
    "22023": f"select '2024-01-01'::timestamptz at time zone '{CANARY}'",
    "23502": f"insert into c values (null, '{CANARY}')",
    "23505": f"insert into c values (7, '{CANARY}'), (7, '{CANARY}')",
    "23514": f"insert into c values (-1, '{CANARY}')",
    "23503": f"insert into d values ('{CANARY}')",
    "P0001": f"do $$ begin raise exception 'row {CANARY} is bad'; end $$",
    "42501": f"do $$ begin raise exception 'row {CANARY} is bad' using errcode = '42501'; end $$",
    "40001": f"do $$ begin raise exception 'row {CANARY} is bad' using errcode = '40001'; end $$",
    "45000": f"do $$ begin raise exception 'row {CANARY} is bad' using errcode = '45000'; end $$",
    "42601": f"do $$ begin execute 'selekt ' || quote_ident('{CANARY}'); end $$",
    "42703": f"do $$ begin execute 'select ' || quote_ident('{CANARY}'); end $$",
    "P0004": f"do $$ begin assert false, '{CANARY}'; end $$",
}


@pytest.mark.parametrize("state", PROVOKED)
async def test_no_value_of_a_row_is_told(warehouse: TestDatabase, state: str) -> None:
    """The errors are real: what PostgreSQL quotes, it quotes here."""
    address = DatabaseConnection("warehouse", warehouse.url("loader"))
    async with connect(address, side="warehouse") as connection:
        await connection.execute(
            "create temporary table c (id int primary key check (id > 0), v varchar(20));"
            "create temporary table e (v text primary key); create temporary table d (v text references e)"
        )
        with pytest.raises(asyncpg.PostgresError) as provoked:
            await connection.execute(PROVOKED[state])
    assert provoked.value.sqlstate == state
    failure = diagnose(provoked.value, "shop.prices")
    assert state in str(failure.error)
    assert CANARY not in str(failure.error)
    assert CANARY not in str(failure.facts(1, 1))
    assert CANARY not in repr(failure)


@pytest.mark.parametrize("code", ["P0001", "42501", "22000"])
async def test_what_a_function_at_the_source_says_reaches_neither_error_nor_ledger(ends: TwoEnds, code: str) -> None:
    ends.source(
        "create function leak(v text) returns int language plpgsql as $$ begin "
        f"raise exception 'cannot take %', v using errcode = '{code}', detail = v, hint = v; end $$;"
        f"create view leaky as select 1 as id, leak('{CANARY}') as v"
    )
    with pytest.raises(MedallionError) as failure:
        await ends.load(Table("leaky", key="id", load=Merge()))
    assert code in str(failure.value)
    assert CANARY not in str(failure.value)
    assert isinstance(failure.value, SourceError)
    ledger = ends.raw("select l::text || e::text from ops.loads as l inner join ops.errors as e using (error_id)")
    assert len(ledger) == 1
    assert CANARY not in ledger[0][0]


async def test_a_value_that_raw_refuses_is_not_told(ends: TwoEnds) -> None:
    ends.source("create table t (id int primary key, v text); insert into t values (1, 'x')")
    table = Table("t", key="id", load=Merge())
    await ends.load(table)
    ends.raw("alter table raw_shop.t add constraint only_x check (v = 'x')")
    ends.source(f"update t set v = '{CANARY}'")
    with pytest.raises(WarehouseError) as failure:
        await ends.load(table)
    assert "23514" in str(failure.value)
    assert CANARY not in str(failure.value)
    assert failure.value.failure_class is FailureClass.DATA
    assert CANARY not in str(
        ends.raw("select l::text from ops.loads as l union all select e::text from ops.errors as e")
    )


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionRefusedError(CANARY),
        ConnectionResetError(CANARY),
        socket.gaierror(CANARY),
        TimeoutError(CANARY),
        asyncpg.InterfaceError(CANARY),
        asyncpg.InternalClientError(CANARY),
        OSError(CANARY),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_a_lost_connection_is_transient_and_names_the_side(problem: Exception) -> None:
    at_source = diagnose(problem, "shop.prices", "source")
    assert isinstance(at_source.error, SourceUnavailable)
    assert isinstance(diagnose(problem, "shop.prices").error, WarehouseError)
    assert (at_source.failure_class, at_source.strategy) == (FailureClass.TRANSIENT, Strategy.RETRY)
    assert at_source.error.retryable
    assert CANARY not in str(at_source.error)


async def test_a_session_that_was_ended_while_nobody_listened_is_lost_too(shop: TestDatabase) -> None:
    """The server's last words are there, its end of the connection is not yet: the protocol is out of step."""
    async with connect(DatabaseConnection("shop", shop.url("extractor")), side="source") as origin:
        pid = origin.get_server_pid()
        run_sql(shop.url("admin"), "select pg_terminate_backend(%s, 5000)", [pid])
        for _ in range(2):  # the first turn of the loop asks for what has arrived, the second takes one message
            await asyncio.sleep(0)
        with pytest.raises(asyncpg.InternalClientError) as caught:
            await origin.execute("select 1")

    failure = diagnose(caught.value, "shop.prices", "source")
    assert (failure.failure_class, failure.error.retryable) == (FailureClass.TRANSIENT, True)
    assert isinstance(failure.error, SourceUnavailable)


def test_a_certificate_that_is_not_accepted_is_a_matter_of_configuration() -> None:
    error = explain(ssl.SSLCertVerificationError(CANARY), "shop", "source")
    assert isinstance(error, ConfigurationError)
    assert "sslrootcert" in error.fix
    assert not error.retryable


@pytest.mark.parametrize("side", ["source", "warehouse"])
async def test_a_statement_that_took_too_long_is_not_tried_again(warehouse: TestDatabase, side: Side) -> None:
    """It would take as long again, four times an hour at worst."""
    address = DatabaseConnection("shop", warehouse.url("loader"))
    with setting(statement_timeout_seconds=0.05):
        async with connect(address, side=side) as connection:
            with pytest.raises(asyncpg.QueryCanceledError) as canceled:
                await connection.execute("select pg_sleep(5)")
    failure = diagnose(canceled.value, "shop.prices", side)
    assert (failure.failure_class, failure.error.retryable) == (FailureClass.RESOURCE, False)
    assert "MEDALLION_STATEMENT_TIMEOUT_SECONDS" in failure.error.fix
    assert side in failure.error.fix


async def test_a_statement_that_somebody_stopped_is_left_to_a_person(warehouse: TestDatabase) -> None:
    address = DatabaseConnection("shop", warehouse.url("loader"))
    async with connect(address, side="warehouse") as connection, connect(address, side="warehouse") as other:
        sleeping = asyncio.create_task(connection.execute("select pg_sleep(5)"))
        while not sleeping.done():
            await other.execute("select pg_cancel_backend($1)", connection.get_server_pid())
            await asyncio.sleep(0.05)
        with pytest.raises(asyncpg.QueryCanceledError) as canceled:
            await sleeping
    failure = diagnose(canceled.value, "shop.prices")
    assert (failure.failure_class, failure.error.retryable) == (FailureClass.PERMANENT, False)
    assert "a user cancelled" in failure.error.fix


@pytest.mark.parametrize("query", ["sslmode=verify-full", "sslmode=verify-full&sslrootcert=/nowhere/root.crt"])
async def test_a_missing_certificate_file_is_named_as_such(
    warehouse: TestDatabase, query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    error = await opened(f"{warehouse.url('loader')}?{query}")
    assert isinstance(error, ConfigurationError)
    assert "certificate" in error.what
    assert "sslrootcert" in error.fix
    assert "~/.postgresql/root.crt" in error.fix


def test_what_nobody_foresaw_is_told_by_its_kind_only() -> None:
    failure = diagnose(KeyError(CANARY), "shop.prices")
    assert "unexpected KeyError" in str(failure.error)
    assert CANARY not in str(failure.error)
    assert failure.strategy is Strategy.ASK


def test_our_own_errors_stay_as_they_are() -> None:
    refused = DataRefused("too many", where="x", fix="look")
    assert explain(refused, "y") is refused
    assert diagnose(refused, "y").status == "refused"
    assert diagnose(SchemaDrift("retyped", where="x", fix="look"), "y").failure_class is FailureClass.SCHEMA
    assert diagnose(KeyError(), "y").status == "failed"


def test_each_failure_has_an_id_of_its_own() -> None:
    ids = {diagnose(KeyError(), "x").error_id for _ in range(100)}
    assert len(ids) == 100


async def opened(url: str) -> MedallionError:
    with pytest.raises(MedallionError) as failure:
        async with connect(DatabaseConnection("warehouse", url), side="warehouse"):
            pass
    return failure.value


async def test_a_wrong_password_is_refused_without_naming_it(warehouse: TestDatabase) -> None:
    right = warehouse.cluster.passwords["medallion_loader"]
    error = await opened(warehouse.url("loader").replace(right, CANARY))
    assert isinstance(error, ConfigurationError)
    assert "28P01" in error.what
    assert "medallion_loader@127.0.0.1" in error.where
    assert CANARY not in str(error)


async def test_an_address_where_nobody_answers_is_transient(warehouse: TestDatabase) -> None:
    error = await opened(f"postgresql://u:{CANARY}@127.0.0.1:1/db")
    assert isinstance(error, WarehouseError)
    assert error.retryable
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{CANARY}@127.0.0.1:port/db",
        f"mysql://u:{CANARY}@h/db",
        f"{CANARY}",
        f"postgresql://[{CANARY}/db",
    ],
)
async def test_an_address_that_cannot_be_read_is_refused_with_an_example(url: str) -> None:
    error = await opened(url)
    assert isinstance(error, ConfigurationError)
    assert "postgresql://user:password@host:5432/database" in error.fix
    assert CANARY not in str(error)


async def test_a_database_that_is_not_there_is_a_matter_of_configuration(warehouse: TestDatabase) -> None:
    error = await opened(warehouse.cluster.url("medallion_loader", "nowhere"))
    assert isinstance(error, ConfigurationError)
    assert "nowhere" in str(error)


async def test_an_address_that_no_source_can_fit_says_what_to_write_instead(shop: TestDatabase) -> None:
    """`read-write` is told by the session's own setting, which is read-only for every source."""
    url = f"{shop.url('extractor')}?target_session_attrs="
    with pytest.raises(ConfigurationError, match="target_session_attrs=primary"):
        async with connect(DatabaseConnection("shop", url + "read-write"), side="source"):
            pass
    async with connect(DatabaseConnection("shop", url + "primary"), side="source") as origin:
        assert await origin.fetchval("select 1") == 1


async def test_a_source_is_opened_for_reading_only(shop: TestDatabase) -> None:
    async with connect(DatabaseConnection("shop", shop.url("app")), side="source") as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("delete from basket_items")
