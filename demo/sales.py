"""The lines that were sold, and how they enter the shop's baskets and basket_items.

A line's number is its place in the file, which is ordered by time, from 1; so is the place of its basket's first line.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from demo.dataset import Integers, Numbers, read_array
from demo.pgcopy import Column, copy_columns

_AMOUNTS = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
_DAY_US = 86_400_000_000
LAST_DAY_US = int(np.datetime64("2017-12-31", "us").astype(np.int64))
_LATE_DAY_US = LAST_DAY_US - 3 * _DAY_US
_ONE_BASKET_IN = 40  # 10 of the 376 baskets of 28 December, with 92 lines


@dataclass(frozen=True, slots=True)
class Sales:
    """Lines as columns of equal length. Amounts in cents, `sold_at` in microseconds since 1970 UTC."""

    line_id: Integers
    household_id: Numbers
    store_id: Numbers
    basket_id: Integers
    product_id: Numbers
    quantity: Numbers
    week: Numbers
    sold_at: Integers
    sales_value: Numbers
    retail_disc: Numbers
    coupon_disc: Numbers
    coupon_match_disc: Numbers

    def __len__(self) -> int:
        return len(self.line_id)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Sales":
        """The lines whose place in `chosen` is true."""
        return Sales(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def part(self, start: int, stop: int) -> "Sales":
        """The lines from place `start` up to, not including, `stop`."""
        return Sales(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    def of_last_day(self) -> npt.NDArray[np.bool_]:
        """The lines of the year's last day, sold on or after 2017-12-31: they arrive on day two."""
        return self.sold_at >= LAST_DAY_US

    def arriving_late(self) -> npt.NDArray[np.bool_]:
        """The lines of every 40th basket of 28 December: held back on day one, they arrive three days late."""
        that_day = (self.sold_at >= _LATE_DAY_US) & (self.sold_at < _LATE_DAY_US + _DAY_US)
        return np.isin(self.basket_id, np.unique(self.basket_id[that_day])[::_ONE_BASKET_IN]) & that_day


def read_sales(households: int | None = None) -> Sales:
    """All lines, or those of the households numbered 1 to `households`."""
    small = {
        "household_id": np.int16,
        "store_id": np.int32,
        "product_id": np.int32,
        "quantity": np.int32,
        "week": np.int16,
    }
    basket_id = read_array("transactions", "basket_id")
    sales = Sales(
        line_id=np.arange(1, len(basket_id) + 1, dtype=np.int64),
        basket_id=basket_id,
        sold_at=read_array("transactions", "transaction_timestamp"),
        # Narrow numbers: all lines take 82 MB, against 141 MB with 64 bits each.
        **{column: read_array("transactions", column).astype(kind) for column, kind in small.items()},
        # The file holds doubles that are whole cents to within 1e-11.
        **{amount: np.rint(read_array("transactions", amount) * 100).astype(np.int32) for amount in _AMOUNTS},
    )
    return sales if households is None else sales.where(sales.household_id <= households)


def copy_baskets(connection: psycopg.Connection[Any], sales: Sales, updated_at: int | None = None) -> int:
    """Add the lines' baskets; `updated_at` in microseconds since 1970, or the time of sale. Returns how many."""
    _, first_lines = np.unique(sales.basket_id, return_index=True)
    first_lines.sort()
    sold_at = sales.sold_at[first_lines]
    columns = [
        Column("basket_id", "bigint", sales.basket_id[first_lines]),
        Column("household_id", "bigint", sales.household_id[first_lines]),
        Column("store_id", "bigint", sales.store_id[first_lines]),
        Column("sold_at", "moment", sold_at),
        Column("week", "smallint", sales.week[first_lines]),
        Column("updated_at", "moment", _moments(sold_at, updated_at)),
    ]
    return copy_columns(connection, "baskets", columns)


def copy_lines(connection: psycopg.Connection[Any], sales: Sales, updated_at: int | None = None) -> int:
    """Add the lines to basket_items; `updated_at` as in `copy_baskets`. Returns how many."""
    columns = [
        Column("basket_item_id", "bigint", sales.line_id),
        Column("basket_id", "bigint", sales.basket_id),
        Column("product_id", "bigint", sales.product_id),
        Column("quantity", "integer", sales.quantity),
        *(Column(amount, "cents", getattr(sales, amount)) for amount in _AMOUNTS),
        Column("updated_at", "moment", _moments(sales.sold_at, updated_at)),
    ]
    return copy_columns(connection, "basket_items", columns)


def _moments(sold_at: Integers, updated_at: int | None) -> Integers:
    return sold_at if updated_at is None else np.full(len(sold_at), updated_at, dtype=np.int64)
