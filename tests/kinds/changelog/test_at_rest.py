"""Whatever is written, and wherever loads are killed: at rest, raw is the source, row for row."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from flows.failures.failpoints import FAILPOINTS
from flows.kinds.changelog import applying
from flows.kinds.changelog.net import Net
from flows.publish.publish import check_and_publish
from flows.state import ledger
from flows.values.errors import SourceUnavailable
from tests.kinds.changelog.log_ends import LogEnds, drop_slots
from tests.kinds.changelog.test_changes import LONG
from tests.kinds.conformance import forking

#: Not passed by loads of changes.
OF_OTHERS = {"in_chunk_before_commit", "after_slice_commit", "after_chunk_commit"}
COLUMNS = "id bigint primary key, amount int, note text"


class Writer:
    """Random changes of a table with few keys, so that they meet."""

    def __init__(self, ends: LogEnds, seed: int) -> None:
        self.ends, self.draw, self.added = ends, random.Random(seed), 0

    @property
    def key(self) -> int:
        return self.draw.randrange(1, 25)

    def statement(self) -> str:
        """One change, which may meet no row."""
        key, other, value = self.key, self.key, self.draw.randrange(1000)
        long = LONG.replace("n::", f"{value}::")
        return self.draw.choice(
            [
                f"insert into items (id, amount, note) values ({key}, {value}, {long}) on conflict do nothing",
                f"insert into items (id, amount, note) values ({key}, {value}, 'short') on conflict (id) do update "
                f"set amount = excluded.amount",
                f"update items set amount = {value} where id = {key}",
                f"update items set amount = {value}",
                f"update items set note = {long} where id = {key}",
                f"update items set id = {other} where id = {key} and not exists (select from items where id = {other})",
                f"delete from items where id = {key}",
                f"savepoint s; delete from items where id > {key}; rollback to s",
            ]
        )

    def write(self) -> None:
        """A transaction of some changes; now and then a truncate, a column, a change of identity or a rollback."""
        rare = self.draw.random()
        if rare < 0.04:
            self.ends.source("truncate items")
        elif rare < 0.08:
            self.added += 1
            default = self.draw.choice(["", " default 'x'"])
            self.ends.source(f"alter table items add column more_{self.added} text{default}")
        elif rare < 0.12:
            self.ends.source(f"alter table items replica identity {self.draw.choice(['full', 'default'])}")
        else:
            changes = "; ".join(self.statement() for _ in range(self.draw.randrange(1, 6)))
            self.ends.source(f"begin; {changes}; {self.draw.choice(['commit', 'commit', 'commit', 'rollback'])}")


async def interleave(ends: LogEnds, seed: int, steps: int) -> None:
    """Changes, loads, loads that die, and slots that are lost; then a look at both ends at rest."""
    writer = Writer(ends, seed)
    ends.create("items", COLUMNS)
    ends.source(f"insert into items select n, n, {LONG} from generate_series(1, 12) as n")
    await ends.set_up()
    for _ in range(steps):
        for _ in range(writer.draw.randrange(1, 5)):
            writer.write()
        turn = writer.draw.random()
        if turn < 0.35:
            kill(ends, writer.draw.choice([name for name in FAILPOINTS if name not in OF_OTHERS]))
        elif turn < 0.4:
            drop_slots(ends.shop)
        else:
            await ends.load()
    result = await ends.load()
    assert ends.same(), f"seed {seed}"
    assert result.counts.reconciliation == "match", f"seed {seed}"
    assert (await ends.load()).counts.changed == 0
    assert ends.raw("select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r'") == []


def kill(ends: LogEnds, failpoint: str) -> None:
    """A load in a process that dies there."""
    variables = {
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
        "MEDALLION_FAILPOINT": failpoint,
    }
    done = forking.run("tests.kinds.conformance.one_load", ["tests.kinds.changelog.killable"], variables)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("seed", [1, 2])
async def test_at_rest_both_ends_are_equal(ends: LogEnds, seed: int) -> None:
    await interleave(ends, seed, 8)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 23))
async def test_at_rest_both_ends_are_equal_after_many_steps(ends: LogEnds, seed: int) -> None:
    await interleave(ends, seed, 30)


# -- controls: faults that the promise must notice


async def changes_arrive(ends: LogEnds) -> None:
    """The promise in short: changes, a load that is interrupted before its commit, and another one."""
    ends.create("items", COLUMNS)
    ends.source(f"insert into items select n, n, {LONG} from generate_series(1, 9) as n")
    await ends.set_up()
    await ends.load()
    ends.source("update items set amount = 50 where id = 5")
    ends.source("update items set amount = 40 where id = 4")
    ends.source("begin; delete from items where id = 3; insert into items values (3, 30, 'again'); commit")
    ends.source("delete from items where id = 2")
    with (
        patch.object(
            applying, "_note", side_effect=SourceUnavailable("interrupted", where="test", fix="", retryable=True)
        ),
        pytest.raises(SourceUnavailable),
    ):
        await ends.load()
    result = await ends.load()
    assert ends.same()
    assert result.counts.reconciliation == "match"


@contextmanager
def staged(change: str) -> Iterator[None]:
    """The changes of each load, tampered with before they are applied."""
    honest = Net.land

    async def land(net: Net, *given: Any) -> int:
        await net.warehouse.execute(change.format(net.changes.relation))
        return await honest(net, *given)

    with patch.object(Net, "land", land):
        yield


@contextmanager
def out_of_line_is_null() -> Iterator[None]:
    async def nothing(*_: object) -> None:
        return None

    with patch.object(Net, "_fill_unchanged", nothing):
        yield


@contextmanager
def position_apart() -> Iterator[None]:
    """The position is committed before the rows, in a transaction of its own."""

    async def apart(address: Any, session: Any, part: Any, note: Any = None) -> Any:
        target = session.target
        await ledger.save_cursor(session.warehouse, target.source, target.table, part.window.next, session.batch_id)
        return await check_and_publish(address, session, part, note)

    with patch("flows.publish.run.check_and_publish", apart):
        yield


FAULTS: dict[str, Callable[[], Any]] = {
    "drops an update": lambda: staged("delete from {0} where _log_op = 'U' and id = '5'"),
    "applies a delete twice": lambda: staged(
        "insert into {0} select (d).* from (select d from {0} as d where _log_op = 'D' and id = '3') as twice "
        "cross join lateral (select 1) as l; update {0} set _log_seq = 1000000 where ctid = (select max(ctid) from {0})"
    ),
    "takes what is out of line for null": out_of_line_is_null,
    "commits the position apart from the rows": position_apart,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_noticed(ends: LogEnds, fault: str) -> None:
    with FAULTS[fault](), pytest.raises(AssertionError):
        await changes_arrive(ends)


async def test_without_a_fault_changes_arrive(ends: LogEnds) -> None:
    await changes_arrive(ends)
