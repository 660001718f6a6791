"""What looks for a broken invariant finds it: each is broken once."""

import pytest

from flows.declare import Replace
from flows.kinds.postgres import Database, Table
from tests.conftest import TestDatabase
from tests.eventually import eventually
from tests.kinds.postgres import invariants
from tests.publish.two_ends import TwoEnds

ITEMS = Table("items", key="id", load=Replace())
SOURCE = Database("shop", connection="shop", tables=[ITEMS])

#: What is done to raw, and how the invariant begins that it breaks.
BROKEN = {
    "update raw_shop.items set v = 9 where id = 1": "I1",
    "update raw_shop.items set note = 'null' where id = 2": "I1",
    "update raw_shop.items as i set v = j.v from raw_shop.items as j where i.id + j.id = 4 and i.id <> j.id": "I1",
    "delete from raw_shop.items where id = 3": "I1",
    "insert into raw_shop.items select 4, v, note, _extracted_at, _source_system, _batch_id from raw_shop.items "
    "where id = 1": "I1",
    "update raw_shop.items set _batch_id = _batch_id + 1 where id = 1": "I4",
}


async def test_what_breaks_an_invariant_is_found(warehouse: TestDatabase, shop: TestDatabase) -> None:
    ends = TwoEnds(warehouse, shop)
    ends.source("create table items (id int primary key, v int, note text);"
                "insert into items values (1, 1, 'a'), (2, 2, null), (3, 3, 'c')")  # fmt: skip
    await invariants.load(ends, SOURCE, "items")
    ends.raw("create table landing.kept as select * from raw_shop.items")
    invariants.at_rest(ends, SOURCE, ITEMS)

    for statement, invariant in BROKEN.items():
        ends.raw(statement)
        with pytest.raises(AssertionError, match=rf"^{invariant}: items"):
            invariants.at_rest(ends, SOURCE, ITEMS)
        ends.raw("delete from raw_shop.items; insert into raw_shop.items select * from landing.kept")
    invariants.at_rest(ends, SOURCE, ITEMS)

    with invariants.reading(warehouse, [ITEMS]) as reader:
        eventually(reader.looked.is_set)
        reader.saw_nothing_partial()
        ends.raw("delete from raw_shop.items where id = 1")
        eventually(lambda: bool(reader.partial))
    with pytest.raises(AssertionError, match=r"^I6"):
        reader.saw_nothing_partial()
