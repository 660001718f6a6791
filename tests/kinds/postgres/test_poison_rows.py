"""Rows at the edge of what PostgreSQL can hold: exact in raw, or that one row in quarantine; never the batch."""

import pytest

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from tests.conftest import TestDatabase
from tests.kinds.loading import open_quarantine, setting
from tests.kinds.postgres import invariants
from tests.kinds.postgres.invariants import six_invariants
from tests.publish.two_ends import TwoEnds

COLUMNS = "id, key, at, on_day, naive, clock, amount, ratio, mood, note, body"
DOOR = (
    Rule("amount_is_a_number", "amount <> 'NaN' and amount < 'Infinity'"),
    Rule("day_is_finite", "isfinite(on_day)"),
)
# One poison a row; what is not named is ordinary.
POISON: dict[str, str] = {
    "amount": "'NaN'", "amount, ratio": "repeat('9', 131072)::numeric, 'NaN'", "amount, note": "'Infinity', ''",
    "on_day": "'infinity'", "on_day, naive": "'0044-03-15 BC', '4713-01-01 00:00:00 BC'",
    "at": "'infinity'", "at, note": "'294275-12-31 23:59:59.999999+00', 'the last year but one'",
    "at, clock": "'0044-03-15 00:00:00+00 BC', '24:00:00'", "at, ratio": "'-infinity', '-Infinity'",
    "mood": "'it''s; odd'", "note": "E'\\\\N \\x01\\t\\n\\r\\\\. \U0001f600\u202e\u200d\ufeff'",
    "key": "''", "note, body": "repeat('\u00e9', 200000), decode(repeat('00ff', 140000), 'hex')",
    "key, note": "'''; drop table poison; --', null",
}  # fmt: skip
CREATE = """
create type mood as enum ('fine', 'it''s; odd', '');
create table poison (
    id bigint generated always as identity primary key, key text not null default md5(random()::text),
    at timestamptz not null default now(), on_day date default '2024-02-29', naive timestamp default '2024-02-29 12:00',
    clock time default '12:00', amount numeric default 1.50, ratio float8 default 0.1, mood mood default 'fine',
    note text default 'ordinary', body bytea default '\\x00'
);
create index on poison (at)
"""
SMALL = {"medium_load_mb": 0.001, "chunk_min_mb": 0.001, "chunk_max_mb": 0.002}
LOADS = {
    "merge": Table(
        "poison", key="id", cursor=Timestamp("at"), load=Merge(), rules=DOOR, max_quarantined=1, deletes=True
    ),
    "merge by text": Table("poison", key="key", load=Merge(), rules=DOOR, max_quarantined=1, deletes=True),
    "append": Table("poison", key="id", cursor=Sequence("id"), load=Append(), rules=DOOR, max_quarantined=1),
    "replace": Table("poison", key="id", load=Replace(min_share=0), rules=DOOR, max_quarantined=1),
}

# Of which each part is in one of those that every change tries.
VARIANTS = (("merge", "at once"), ("merge by text", "in chunks"))


def put_in(ends: TwoEnds) -> None:
    ends.source(
        "; ".join(
            f"insert into poison ({names}) values ({values}); insert into poison default values"
            for names, values in POISON.items()
        )
    )


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("merge", "in chunks"),
        *((kind, "at once") for kind in LOADS if kind != "merge"),
        *(pytest.param(kind, how, marks=pytest.mark.long) for kind, how in VARIANTS),
    ],
)
async def test_a_poison_row_is_exact_or_set_aside_and_the_batch_goes_on(
    warehouse: TestDatabase, shop: TestDatabase, kind: str, how: str
) -> None:
    """They come with a first load and with a later one, in the cursor's own column as well."""
    ends = TwoEnds(warehouse, shop)
    source = Database("shop", connection="shop", tables=[LOADS[kind]])
    ends.source(CREATE)
    ends.source("create unique index on poison (key)")
    put_in(ends)
    with setting(**SMALL if how == "in chunks" else {}):
        async with six_invariants(ends, source):
            await invariants.load(ends, source, "poison")
            ends.source("delete from poison where key in ('', '''; drop table poison; --')" if kind != "append" else
                        "update poison set key = key || ' old' where false")  # fmt: skip
            if kind != "append":
                put_in(ends)

    names = ", ".join(f"t.{name.strip()}" for name in COLUMNS.split(",") if name.strip() != "mood")
    image = f"select md5(string_agg(row({names}, t.mood::text)::text, '' order by t.id)) from {{}} as t where {{}}"
    good = "amount <> 'NaN' and amount < 'Infinity' and isfinite(on_day)"
    assert ends.raw(image.format("raw_shop.poison", "_deleted_at is null")) == ends.source(image.format("poison", good))
    assert {row["rule"] for row in open_quarantine(warehouse)} == {"amount_is_a_number", "day_is_finite"}
