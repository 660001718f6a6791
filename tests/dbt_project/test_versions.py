"""History by the dimension's own SQL: random ones, and what a backdated correction does to sales."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dbt_project.built_warehouse import Story

pytestmark = pytest.mark.xdist_group("dbt")

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, tzinfo=UTC)
START = datetime(2017, 1, 1, tzinfo=UTC)

# One learned version: the hour it begins by the shop's clock, whichever that is, and whether it is a deletion.
versions = st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=7)
histories = st.lists(versions, min_size=1, max_size=5)


class Dimension:
    """dim_household's compiled SQL over a snapshot of the test's own."""

    def __init__(self, connection: psycopg.Connection[Any], compiled: str, database: str) -> None:
        snapshot = f'"{database}"."snapshots"."households_snapshot"'
        assert snapshot in compiled
        connection.execute("create temporary table random_snapshot (like snapshots.households_snapshot)")
        self._connection = connection
        self._sql = compiled.replace(snapshot, "random_snapshot")

    def of(self, learned: list[list[tuple[int, bool]]]) -> dict[int, list[tuple[int, datetime, datetime, bool, int]]]:
        """By household, in order: number, effective_at, expires_at, is_current, and the batch that brought it."""
        self._connection.execute("truncate random_snapshot")
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "insert into random_snapshot (household_id, dbt_valid_from, dbt_valid_to, dbt_is_deleted, _batch_id) "
                "values (%s, %s, %s, %s, %s)",
                [row for household, history in enumerate(learned, 1) for row in snapshot_rows(household, history)],
            )
        found: dict[int, list[tuple[int, datetime, datetime, bool, int]]] = {}
        for household, *version in self._connection.execute(
            "select household_id, version_number, effective_at, expires_at, is_current, _loaded_batch_id "
            f"from ({self._sql}) as dimension where household_id > 0 order by 1, 2"
        ):
            found.setdefault(household, []).append(tuple(version))
        return found


def snapshot_rows(household: int, history: list[tuple[int, bool]]) -> Iterator[tuple[Any, ...]]:
    """As dbt leaves them: each version ends where the next begins, even when that lies before it."""
    begins = [START + timedelta(hours=hour) for hour, _ in history]
    for batch, ((_, deleted), begin, end) in enumerate(zip(history, begins, [*begins[1:], END], strict=True), 1):
        yield household, begin, end, str(deleted), batch


@pytest.fixture
def dimension(transformed: Story) -> Iterator[Dimension]:
    database = transformed.warehouse.database
    with psycopg.connect(database.url("transformer")) as connection:
        connection.execute("set timezone to 'UTC'")
        yield Dimension(connection, transformed.warehouse.compiled("dim_household"), database.name)


# The dimension is emptied before each example.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(learned=histories)
def test_intervals_neither_overlap_nor_leave_a_gap_whatever_was_learned(
    dimension: Dimension, learned: list[list[tuple[int, bool]]]
) -> None:
    for household, found in dimension.of(learned).items():
        history = learned[household - 1]
        assert [number for number, *_ in found] == list(range(1, len(history) + 1))
        assert [batch for *_, batch in found] == list(range(1, len(history) + 1))
        assert [effective for _, effective, *_ in found] == [BEGINNING, *(expires for _, _, expires, *_ in found[:-1])]
        assert all(effective <= expires for _, effective, expires, *_ in found)
        assert [current for *_, current, _ in found] == [False] * (len(found) - 1) + [True]
        assert found[-1][2] == END


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(learned=histories, hour=st.integers(-1, 61))
def test_at_every_moment_what_was_learned_last_counts(
    dimension: Dimension, learned: list[list[tuple[int, bool]]], hour: int
) -> None:
    """The rule told another way: of the versions that had begun by then, the one learned last; else the first."""
    moment = START + timedelta(hours=hour)
    for household, found in dimension.of(learned).items():
        begun = [number for number, (begins, _) in enumerate(learned[household - 1], 1) if begins <= hour]
        valid = [number for number, effective, expires, *_ in found if effective <= moment < expires]
        assert valid == [max(begun, default=1)]


def test_a_backdated_correction_takes_the_sales_since_its_beginning(transformed: Story) -> None:
    """October's change was corrected to June: sales of July were the first version's, and are the third's."""
    versions = [row for row in transformed.day_three["gold.dim_household"] if row["household_id"] == 22]
    first, second, third = sorted(versions, key=lambda row: row["version_number"])
    june = datetime(2017, 6, 1, tzinfo=UTC)
    assert first["expires_at"] == second["effective_at"] == second["expires_at"] == third["effective_at"] == june
    assert (third["income_band"], third["is_current"]) == ("200-249K", True)

    def sales_of(day: str, key: object) -> set[int]:
        lines = getattr(transformed, day)["gold.fct_basket_lines"]
        return {row["basket_line_id"] for row in lines if row["household_key"] == key}

    assert sales_of("day_two", second["household_key"])
    assert sales_of("day_three", second["household_key"]) == set()
    since = {
        row["basket_line_id"]
        for row in transformed.day_three["gold.fct_basket_lines"]
        if row["household_key"] in {version["household_key"] for version in versions} and row["sold_at"] >= june
    }
    assert since
    assert sales_of("day_three", third["household_key"]) == since
    assert since & sales_of("day_two", first["household_key"])
