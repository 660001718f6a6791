"""The circuit of a source: opened by loads that find it out of order, shared by all, tried by one."""

import asyncio

import pytest

from flows.access.addresses import connect
from flows.failures.circuit import CircuitOpen, guarded
from flows.values.errors import ConfigurationError, RateLimited, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.loading import at, rows, setting

QUICK = {"circuit_failures": 2, "circuit_seconds": 0.3, "circuit_longest_seconds": 0.5}


def circuit(warehouse: TestDatabase) -> tuple[str, int, int]:
    (row,) = rows(warehouse, "select state, failures, openings from ops.circuits")
    return row["state"], row["failures"], row["openings"]


async def ask(warehouse: TestDatabase, error: Exception | None = None, takes: float = 0.0) -> None:
    """One load of a session of its own, as another process's."""
    async with (
        connect(at(warehouse, "loader"), side="warehouse") as connection,
        guarded(connection, "erp", "erp.orders"),
    ):
        await asyncio.sleep(takes)
        if error is not None:
            raise error


def down() -> SourceUnavailable:
    return SourceUnavailable("503 from GET /v1/orders", where="erp.orders", fix="wait", retryable=True)


async def test_a_circuit_opens_is_tried_by_one_and_closes_when_it_works(warehouse: TestDatabase) -> None:
    with setting(**QUICK):
        await ask(warehouse)
        assert rows(warehouse, "select * from ops.circuits") == []
        for _ in range(2):
            with pytest.raises(SourceUnavailable, match="503"):
                await ask(warehouse, down())
        assert circuit(warehouse) == ("open", 2, 1)
        with pytest.raises(CircuitOpen, match=r"open for 0 s more: 503 from GET /v1/orders"):
            await ask(warehouse)
        await asyncio.sleep(0.35)
        ends = await asyncio.gather(*(ask(warehouse, takes=0.2) for _ in range(4)), return_exceptions=True)
        assert [type(end) for end in ends].count(CircuitOpen) == 3
        assert "another load is testing the API" in str(next(end for end in ends if end))
        assert circuit(warehouse) == ("closed", 0, 0)


async def test_a_trial_that_fails_opens_it_again_for_longer(warehouse: TestDatabase) -> None:
    with setting(**QUICK):
        for _ in range(2):
            with pytest.raises(SourceUnavailable):
                await ask(warehouse, down())
        await asyncio.sleep(0.35)
        with pytest.raises(SourceUnavailable, match="503"):
            await ask(warehouse, down())
        assert circuit(warehouse) == ("open", 3, 2)
        await asyncio.sleep(0.35)
        with pytest.raises(CircuitOpen):
            await ask(warehouse)


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("401", where="erp", fix="set the key"),
        RateLimited("429", where="erp", fix="wait", retryable=True),
        ValueError("ours"),
    ],
)
async def test_what_says_nothing_about_being_up_is_not_counted(warehouse: TestDatabase, error: Exception) -> None:
    with setting(**QUICK):
        with pytest.raises(SourceUnavailable):
            await ask(warehouse, down())
        for _ in range(3):
            with pytest.raises(type(error)):
                await ask(warehouse, error)
        assert circuit(warehouse) == ("closed", 0, 0)


async def test_a_trial_that_died_without_a_word_is_taken_over(warehouse: TestDatabase) -> None:
    with setting(circuit_failures=1, circuit_seconds=0.01):
        with pytest.raises(SourceUnavailable):
            await ask(warehouse, down())
        change = "update ops.circuits set state = 'half-open', changed_at = now() - interval '{}'"
        async with connect(at(warehouse, "loader"), side="warehouse") as connection:
            await connection.execute(change.format("1 min"))
            with pytest.raises(CircuitOpen):
                await ask(warehouse)
            await connection.execute(change.format("11 min"))
        await ask(warehouse)
        assert circuit(warehouse) == ("closed", 0, 0)
