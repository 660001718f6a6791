"""A table that takes long enough to be interrupted while it is read."""

import pytest

from flows.declare import Merge
from flows.kinds.postgres import Database, Table
from tests.conftest import TestDatabase
from tests.kinds.loading import change

LARGE = Database(
    "shop",
    connection="shop",
    tables=[
        Table("large", key="id", load=Merge(), deletes=True),
    ],
)


# Not compressed in the warehouse: a row stays below the 2 kB from which PostgreSQL would try.
ROWS, FILLER = 12_500, 59


@pytest.fixture
def large(shop: TestDatabase) -> TestDatabase:
    """A shop with a table that is still under way when its first chunk has arrived: 24 MB."""
    change(
        shop,
        "create table large (id bigint primary key, filler text)",
        f"insert into large select id, repeat(md5(id::text), {FILLER}) from generate_series(1, {ROWS}) as id",
    )
    return shop
