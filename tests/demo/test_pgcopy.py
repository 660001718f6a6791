from decimal import Decimal

import numpy as np
import psycopg
import pytest

from demo.pgcopy import Column, binary_blocks, copy_columns
from tests.conftest import TestDatabase


def test_numbers_arrive_exactly_as_they_were_sent(shop: TestDatabase) -> None:
    """The edges are where a digit of base 10,000 begins or ends, and where a moment lies before PostgreSQL's epoch."""
    cents = np.array([0, 1, 99, 100, 9_999, 10_000, 999_999, 1_000_000, 1_000_001, 99_999_999])
    whole = np.array([0, 1, -1, 2, 3, 4, 5, 2**31 - 1, -(2**31), 7])
    moments = np.array([0, -1, 1_000_000, 946_684_800_000_000, 946_684_799_999_999, 1_514_764_800_000_001, 5, 6, 7, 8])
    with psycopg.connect(shop.url("app")) as connection:
        connection.execute("""
            create temporary table sent (
                tiny smallint, small integer, big bigint, amount numeric(10, 2), at timestamptz
            )
        """)
        columns = [
            Column("tiny", "smallint", np.arange(10)),
            Column("small", "integer", whole),
            Column("big", "bigint", whole * 2**31),
            Column("amount", "cents", cents),
            Column("at", "moment", moments),
        ]
        assert copy_columns(connection, "sent", columns) == 10
        rows = connection.execute("""
            select tiny, small, big, amount, (extract(epoch from at) * 1000000)::bigint from sent order by tiny
        """).fetchall()

    expected = zip(range(10), whole.tolist(), (whole * 2**31).tolist(), cents.tolist(), moments.tolist(), strict=True)
    assert rows == [(*row[:3], Decimal(row[3]) / 100, row[4]) for row in expected]


def test_an_amount_is_stored_without_the_zero_digits_it_was_sent_with(shop: TestDatabase) -> None:
    """Otherwise every amount would take more room than one that was typed, in the table and in each copy of it."""
    with psycopg.connect(shop.url("app")) as connection:
        connection.execute("create temporary table sent (amount numeric(10, 2))")
        copy_columns(connection, "sent", [Column("amount", "cents", np.array([150, 0, 1_234_567]))])
        connection.execute("insert into sent values (1.50), (0.00), (12345.67)")
        sizes = connection.execute(
            "select amount, count(*), count(distinct pg_column_size(amount)) from sent group by 1"
        )

        assert {row[1:] for row in sizes} == {(2, 1)}


def test_more_rows_than_one_block_holds_all_arrive(shop: TestDatabase) -> None:
    numbers = np.arange(70_001)
    with psycopg.connect(shop.url("app")) as connection:
        connection.execute("create temporary table sent (number integer)")
        copy_columns(connection, "sent", [Column("number", "integer", numbers)])
        counted = connection.execute("select count(distinct number), min(number), max(number) from sent").fetchone()

    assert counted == (70_001, 0, 70_000)


@pytest.mark.parametrize("cents", [-1, 100_000_000])
def test_an_amount_that_does_not_fit_is_refused_instead_of_sent_wrongly(cents: int) -> None:
    with pytest.raises(ValueError, match="not between 0 and 99,999,999 cents"):
        list(binary_blocks([Column("amount", "cents", np.array([1, cents]))]))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        list(binary_blocks([Column("a", "bigint", np.arange(2)), Column("b", "bigint", np.arange(3))]))
