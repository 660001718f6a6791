"""Any sequence of changes, failures, kills and releases leaves gold as a full build would, after each step."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.conftest import TestCluster, fresh_warehouse
from tests.dbt_project.quick_dbt import hurrying
from tests.models.selective.small_project import SmallWarehouse

pytestmark = pytest.mark.xdist_group("selective sequences")

Step = Callable[[SmallWarehouse, random.Random], None]


def _rows(small: SmallWarehouse, chance: random.Random) -> None:
    number = chance.randint(1, 30)
    table, statement = chance.choice([
        ("orders", f"insert into raw_shop.orders values ({number}, '5') on conflict (id) do update set amount = '6'"),
        ("orders", f"delete from raw_shop.orders where id = {number % 7}"),
        ("lines", f"insert into raw_shop.lines values ({number}, {number % 6}, 2) on conflict do nothing"),
        ("lines", f"update raw_shop.lines set code = 3 - code where id = {number}"),
        ("notes", f"insert into raw_shop.notes values ({number}, 'n') on conflict (id) do update set note = 'm'"),
    ])  # fmt: skip
    if chance.random() < 0.5:
        small.load(table, statement)
    else:
        small.sql("loader", statement)


def _code(small: SmallWarehouse, chance: random.Random) -> None:
    name = chance.choice(["factor", "step", "shift", "mark", "label", "end"])
    value: object = chance.choice(["one", "uno", "eins", "un"]) if name == "label" else chance.randint(1, 9)
    small.edit(**{name: value})


def _fails(small: SmallWarehouse, chance: random.Random) -> None:
    amount = chance.choice(["many", "-1"])  # a model fails, or a test
    small.load("orders", f"insert into raw_shop.orders values (99, '{amount}')")
    if chance.random() < 0.5:
        _code(small, chance)
    assert not small.build()
    small.load("orders", "delete from raw_shop.orders where id = 99")


def _killed(small: SmallWarehouse, chance: random.Random) -> None:
    chance.choice([_rows, _code])(small, chance)
    small.killed_build(chance.randint(1, 6))


def _selection(small: SmallWarehouse, chance: random.Random) -> None:
    chance.choice([_rows, _code])(small, chance)
    select = chance.choice(["joined", "kept+", "total", "codes", "stg_orders+", "marked"])
    if chance.random() < 0.3:
        small.killed_build(0, select=select)
    else:
        small.build(select=select)


def _released(small: SmallWarehouse, chance: random.Random) -> None:
    if chance.random() < 0.5:
        _code(small, chance)
    assert small.release()
    if chance.random() < 0.5:
        _rows(small, chance)


def _rolled_back(small: SmallWarehouse, chance: random.Random) -> None:
    small.roll_back()


def _private(small: SmallWarehouse, chance: random.Random) -> None:
    chance.choice([_rows, _code])(small, chance)
    small.dbt("build", prefix="dev_ada__", folder=small.folder / "dev")


def _meddled(small: SmallWarehouse, chance: random.Random) -> None:
    small.sql("transformer", chance.choice([
        "drop table if exists gold.total cascade", "drop view if exists staging.stg_lines cascade",
        "delete from silver.kept where id % 2 = 0", "truncate silver.joined", "update gold.marked set note = 'x'",
        "drop table if exists staging.codes cascade",
        "create or replace view staging.stg_notes as select id, 'replaced'::text as note from raw_shop.notes",
    ]))  # fmt: skip


#: What may happen between two builds, and how often.
STEPS: Mapping[Step, int] = {
    _rows: 4, _code: 4, _fails: 2, _killed: 3, _selection: 2, _released: 1, _rolled_back: 1, _private: 1, _meddled: 2,
}  # fmt: skip


def go_through(cluster: TestCluster, folder: Path, seed: int, steps: int) -> None:
    chance = random.Random(seed)
    gone: list[str] = []
    with hurrying(), fresh_warehouse(cluster) as database:
        small = SmallWarehouse(database, folder)
        assert small.build()
        for _ in range(steps):
            for step in chance.choices(list(STEPS), list(STEPS.values()), k=chance.choice([1, 1, 2])):
                gone.append(step.__name__)
                step(small, chance)
            told = f"seed {seed}: {' '.join(gone)}"
            assert small.build(), told
            assert small.differing() == [], told
        assert small.build()
        assert small.nodes_built() == set(), f"seed {seed}: built again although nothing had changed"


def test_some_sequence(cluster: TestCluster, tmp_path: Path) -> None:
    go_through(cluster, tmp_path, seed=19, steps=6)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_many_sequences(cluster: TestCluster, tmp_path: Path, seed: int) -> None:
    go_through(cluster, tmp_path, seed, steps=12)
