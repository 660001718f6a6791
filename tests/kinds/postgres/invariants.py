"""The six invariants of a load, checked after a fault and while it lasts.

    async with six_invariants(ends, SOURCE, "orders"):
        ...                                            # the fault, with loads that fail or die of it

While the block lasts, a reader looks at raw and the ledger all the time (I6). After it each table is loaded again,
which must heal whatever was left behind, and then:

I1 source = raw + quarantine + tombstones    I2 no key twice               I3 the cursor is not ahead of durable rows
I4 counts add up                             I5 running again writes nothing    I6 no reader ever saw a partial load
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg

from flows.declare import Overwrite, Replace
from flows.kinds.postgres import Database, Table
from flows.publish.session import LoadResult
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.publish.two_ends import Rows, TwoEnds
from tests.sessions import take_over_sessions

_METADATA = "array['_extracted_at', '_source_system', '_batch_id', '_deleted_at']"


async def load(ends: TwoEnds, source: Database, table: str) -> LoadResult:
    """One load of the source's table."""
    take_over_sessions()
    return await load_table(ends.warehouse_address, ends.shop_address, source, source.table(table))


@asynccontextmanager
async def six_invariants(ends: TwoEnds, source: Database, *tables: str) -> AsyncIterator["Reader"]:
    """All six for the tables of the source (default: every one)."""
    chosen = [source.table(name) for name in tables or [table.name for table in source.tables]]
    with reading(ends.warehouse, chosen) as reader:
        yield reader
        for table in chosen:
            result = await load(ends, source, table.name)
            if result.counts.reconciliation == "missing" and table.keys:
                # Stamped below the cursor, which no cursor can find: the next load reads the table whole.
                result = await load(ends, source, table.name)
            assert result.counts.reconciliation == "match" or not table.keys or not table.deletes, table.name
        await asyncio.to_thread(reader.looked.wait, 10)
    reader.saw_nothing_partial()
    for table in chosen:
        at_rest(ends, source, table)
    before = [image(ends, table.name) for table in chosen]
    again = [await load(ends, source, table.name) for table in chosen]
    assert [result.counts.changed for result in again] == [0] * len(chosen), "I5: a load of what is loaded writes"
    assert [image(ends, table.name) for table in chosen] == before, "I5: a load of what is loaded writes"
    leftovers = ends.raw("select relname from pg_class where relkind = 'r' and relnamespace = 'landing'::regnamespace")
    assert leftovers == [], "a load left its landing table behind"


def at_rest(ends: TwoEnds, source: Database, table: Table) -> None:
    """I1 to I4 for one table that nobody writes or loads."""
    difference = differing(ends, table)
    assert difference == (Counter(), Counter()), f"I1: {table.name}: at the source only, and in raw only"
    if table.keys:
        keys = ", ".join(f'"{key}"' for key in table.keys)
        repeated = ends.raw(f"select count(*) - count(distinct ({keys})) from raw_shop.{table.name}")
        assert repeated == [(0,)], f"I2: {table.name}"
    undurable = ends.raw(
        "select c.cursor_value, l.status, l.window_upper "
        "from ops.cursors as c left join ops.loads as l using (batch_id) where c.table_name = %s "
        "and (l.status is distinct from 'published' or l.window_upper is distinct from c.cursor_value)",
        [table.name],
    )
    assert undurable == [], f"I3: {table.name}"
    # The table's own constraint has each published load add up; here all of them together are what raw holds.
    assert ends.raw(_ADDS_UP.format(table=table.name, dropped=_dropped(table)), [table.name] * 2)[0][0], (
        f"I4: {table.name}"
    )
    chunked = ends.raw(
        "select l.batch_id, l.rows_read, sum(c.rows) from ops.loads as l inner join ops.chunks as c using (batch_id) "
        "where l.status = 'published' and l.table_name = %s group by 1, 2 having l.rows_read <> sum(c.rows)",
        [table.name],
    )
    assert chunked == [], f"I4: {table.name}: chunks and their load count differently"


def differing(ends: TwoEnds, table: Table) -> tuple[Counter[str], Counter[str]]:
    """Rows that only the source has, and rows that only raw and quarantine have, as JSON of the columns' texts.

    A row in quarantine may have an older version in raw that was good. A deleted row must be gone or marked, where the
    table finds deletes at all.
    """
    if _fingerprint(ends.source, table.name) == _fingerprint(
        ends.raw, f"raw_shop.{table.name}", "where _deleted_at is null"
    ) and not ends.raw(
        "select from quarantine.rows where table_name = %s and resolved_at is null limit 1", [table.name]
    ):
        return Counter(), Counter()
    key = "jsonb_build_object({})".format(", ".join(f"'{name}', t.\"{name}\"::text" for name in table.keys))
    row = "(select jsonb_object_agg(key, value)::text from jsonb_each_text({}) where key <> all ({}))"
    at_source = Counter(
        text for (text,) in ends.source(f"select {row.format('to_jsonb(t)', _METADATA)} from {table.name} as t")
    )
    held = ends.raw(
        f"select {key}::text, {row.format('to_jsonb(t)', _METADATA)} from raw_shop.{table.name} as t "
        "where _deleted_at is null"
    )
    open_rows = ends.raw(
        f"select coalesce((select jsonb_object_agg(key, value)::text from jsonb_each_text(row_key)), ''), "
        f"{row.format('row_data', _METADATA)} from quarantine.rows where table_name = %s and resolved_at is null",
        [table.name],
    )
    refused = {place for place, _ in open_rows if table.keys}
    here = Counter(text for place, text in held if place not in refused) + Counter(text for _, text in open_rows)
    return at_source - here, here - at_source


def _fingerprint(ask: Callable[[str], Rows], table: str, condition: str = "") -> Rows:
    """How many rows, and the sum of 64 bits of each as JSON: the same rows in any order have the same.

    Where two differ, or a row is refused, each row is looked at as text, which takes ten times as long.
    """
    return ask(
        f"select count(*), sum(hashtextextended((to_jsonb(t) - {_METADATA})::text, 0)) from {table} as t {condition}"
    )


def _dropped(table: Table) -> str:
    """A replace takes rows out of raw, of partitions or of all; anything else marks them."""
    return "l.rows_deleted" if isinstance(table.load, Replace | Overwrite) else "0"


# Every row of raw comes from a load that is published, and there are as many as published loads brought: in one
# statement, so in one snapshot. Whoever sees a part of a load sees one of the two fail.
_ADDS_UP = """
with held as (select _batch_id, count(*) as rows from raw_shop.{table} group by 1)
select
    (select coalesce(sum(rows), 0) from held) = (
        select coalesce(sum(l.rows_inserted - {dropped}), 0) from ops.loads as l
        where l.table_name = %s and l.status = 'published'
    )
    and not exists (
        select from held as r
        left join ops.loads as l on l.batch_id = r._batch_id and l.table_name = %s and l.status = 'published'
        where l.batch_id is null
    )
"""


def image(ends: TwoEnds, table: str) -> object:
    """Raw down to its physical rows, and what stands in quarantine."""
    return (
        ends.raw(
            "select count(*), sum(hashtextextended(row(r.xmin::text, r.ctid, r::text)::text, 0)) "
            f"from raw_shop.{table} as r"
        ),
        ends.raw("select q::text from quarantine.rows as q where table_name = %s order by 1", [table]),
    )


class Reader:
    """Somebody who may read raw and the ledger, and looks at both all the time."""

    def __init__(self, warehouse: TestDatabase, tables: list[Table], also: tuple[str, ...] = ()) -> None:
        self._url, self._tables, self._also = warehouse.url("transformer"), tables, also
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.looked = threading.Event()
        self.partial: list[str] = []

    def _look(self) -> None:
        while not self._stop.is_set():
            # The fault may be one of the warehouse, which then ends this session as well.
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self._url, autocommit=True) as session:
                took = 0.0
                # It has a tenth of a core at most: it looks for as long as a test waits, and a hundred tests have one.
                while not self._stop.wait(max(0.01, 9 * took)):
                    began = time.monotonic()
                    for table in self._tables:
                        self._poll(session, table)
                    took = time.monotonic() - began
            self._stop.wait(0.02)

    def _poll(self, session: psycopg.Connection, table: Table) -> None:
        query = _ADDS_UP.format(table=table.name, dropped=_dropped(table))
        try:
            whole = session.execute(query.encode(), [table.name] * 2).fetchone()
            always = [session.execute(check.encode()).fetchone() for check in self._also]
        except psycopg.errors.UndefinedTable:  # no load is published yet
            return
        self.looked.set()
        if whole != (True,) or any(answer != (True,) for answer in always):
            self.partial.append(table.name)

    def saw_nothing_partial(self) -> None:
        """I6; and that there was something to see."""
        assert self.partial == [], "I6: a reader saw a part of a load"
        assert self.looked.is_set(), "I6: the reader never saw the table, so it proves nothing"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


@contextmanager
def reading(warehouse: TestDatabase, tables: list[Table], *also: str) -> Iterator[Reader]:
    """A reader at work; `also` is SQL that must be true whenever it looks."""
    reader = Reader(warehouse, tables, also)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()
