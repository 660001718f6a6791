"""What `medallion status` is told."""

from flows.access.addresses import connect
from flows.state.overview import read_overview
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase
from tests.publish.two_ends import run_sql

_ERROR = (
    "insert into ops.errors (error_id, failure_class, severity, strategy, location, what, fix, retryable) "
    "select 'E-' || n, 'transient', 'warning', 'back off and retry', 'shop.t' || n, {what}, 'look', true "
    "from generate_series({first}, {last}) as n"
)


async def test_equal_errors_are_one_row_with_their_count(warehouse: TestDatabase) -> None:
    for what, first, last in (
        ("'the connection to the source failed'", 1, 6),
        ("'no connection for GET /v1/' || n", 7, 9),
        ("'something else'", 10, 10),
    ):
        run_sql(warehouse.url("loader"), _ERROR.format(what=what, first=first, last=last))

    async with connect(DatabaseConnection("warehouse", warehouse.url("loader")), side="warehouse") as connection:
        errors = (await read_overview(connection)).errors

    assert sorted((error["times"], error["places"]) for error in errors) == [(1, 1), (3, 3), (6, 6)]
    assert {error["what"] for error in errors if error["times"] == 6} == {"the connection to the source failed"}
