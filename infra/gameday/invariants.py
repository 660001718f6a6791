"""The six invariants of the platform, looked at independently: by queries of the game's own, against its ledger.

I1 source = raw + quarantine + tombstones. I2 no duplicate key. I3 the cursor is never ahead of durable rows.
I4 read = inserted + updated + unchanged + deduplicated + quarantined. I5 running again changes nothing.
I6 no reader ever sees a partial load.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from infra.gameday.database import Database
from infra.gameday.names import TABLES
from infra.gameday.world import World
from infra.gameday.writer import Ledger, Writer

NAMES: Mapping[str, str] = {
    "I1": "source = raw + quarantine + tombstones",
    "I2": "no duplicate key",
    "I3": "the cursor is never ahead of durable rows",
    "I4": "every row that was read is accounted for",
    "I5": "running again changes nothing",
    "I6": "no reader sees a partial load",
}
_RAW: Mapping[str, tuple[str, str]] = {
    "game.events": ("raw_game.events", "event_id"),
    "game.accounts": ("raw_game.accounts", "account_id"),
    "game.prices": ("raw_game.prices", "price_id"),
    "gameapi.items": ("raw_gameapi.items", "id"),
}
#: What a row of raw is compared by, as the ledger has it.
_CONTENT: Mapping[str, str] = {
    "game.events": "select event_id, note from raw_game.events where _deleted_at is null",
    "game.accounts": "select account_id, holder, balance::bigint from raw_game.accounts where _deleted_at is null",
    "game.prices": "select price_id, version, amount::bigint, label from raw_game.prices where _deleted_at is null",
    "gameapi.items": "select id, (payload ->> 'stock')::bigint from raw_gameapi.items where _deleted_at is null",
}
_SOURCE: Mapping[str, str] = {
    "game.events": "select event_id, note from events",
    "game.accounts": "select account_id, holder, balance::bigint from accounts",
    "game.prices": "select price_id, version, amount::bigint, label from prices",
}
_NO_SUCH_TABLE = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)


def broken(world: World, writer: Writer) -> dict[str, list[str]]:
    """What is broken now, by invariant; empty lists when all hold. The writer must be paused, and all be loaded."""
    ledger = writer.ledger
    found: dict[str, list[str]] = {name: [] for name in NAMES if name != "I6"}
    with world.source.session() as source, world.warehouse.session() as warehouse:
        # One moment, so that a load that commits meanwhile is in all that is read or in none.
        warehouse.autocommit = False
        warehouse.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for table in TABLES:
            wanted = _wanted(ledger, table)
            if table in _SOURCE and _by_key(source.execute(_SOURCE[table]).fetchall()) != wanted:
                found["I1"].append(f"{table}: the source differs from what the writer has committed")
            found["I1"] += _differences(warehouse, table, wanted)
            relation, key = _RAW[table]
            doubled = warehouse.execute(
                f"select count(*) - count(distinct {key}) from {relation}"  # nosec B608 - names of ours
            ).fetchone()
            if doubled != (0,):
                found["I2"].append(f"{table}: keys that are in raw more than once")
        gone = ledger.deleted & {
            key
            for (key,) in warehouse.execute(
                "select account_id from raw_game.accounts where _deleted_at is null"
            ).fetchall()
        }
        if gone:
            found["I1"].append(f"game.accounts: {len(gone)} rows that were deleted are not marked in raw")
        found["I3"] += ahead(warehouse, ledger.events)
        unaccounted = warehouse.execute(
            "select count(*) from ops.loads where status = 'published' and rows_read is distinct from rows_inserted "
            "+ rows_updated + rows_unchanged + rows_deduplicated + rows_quarantined"
        ).fetchone()
        if unaccounted != (0,):
            found["I4"].append("loads whose counts do not add up")
        found["I5"] += [f"{table}: a load without news changed rows" for table in _changed(warehouse)]
    return found


def restless(world: World) -> list[str]:
    """Tables whose last published load changed rows."""
    try:
        with world.warehouse.session() as warehouse:
            return _changed(warehouse)
    except psycopg.Error:  # it crashed, and is about to come back
        return [*TABLES]


def _changed(warehouse: psycopg.Connection) -> list[str]:
    rows = warehouse.execute(
        "select distinct on (1) source_system || '.' || table_name, "
        "rows_inserted + rows_updated + coalesce(rows_deleted, 0) from ops.loads where status = 'published' "
        "order by 1, batch_id desc"
    ).fetchall()
    calm = {table for table, changed in rows if changed == 0}
    return [table for table in TABLES if table not in calm]


def ahead(warehouse: psycopg.Connection, events: Mapping[int, str]) -> list[str]:
    """Events below the stored cursor that the writer has committed, and that raw does not have."""
    row = warehouse.execute(
        "select cursor_value from ops.cursors where source_system = 'game' and table_name = 'events'"
    ).fetchone()
    if row is None or row[0] is None:
        return []
    below = {key for key in events if key <= int(row[0])}
    there = {key for (key,) in warehouse.execute("select event_id from raw_game.events").fetchall()}
    missing = below - there
    return [f"game.events: {len(missing)} rows below the cursor are not in raw"] if missing else []


def _wanted(ledger: Ledger, table: str) -> dict[int, tuple[Any, ...]]:
    if table == "game.events":
        return {key: (note,) for key, note in ledger.events.items()}
    if table == "gameapi.items":
        return {key: (stock,) for key, stock in ledger.items.items()}
    return dict(ledger.accounts if table == "game.accounts" else ledger.prices)


def _by_key(rows: list[Any]) -> dict[int, tuple[Any, ...]]:
    return {int(row[0]): tuple(row[1:]) for row in rows}


def _differences(warehouse: psycopg.Connection, table: str, wanted: Mapping[int, tuple[Any, ...]]) -> list[str]:
    raw = _by_key(warehouse.execute(_CONTENT[table]).fetchall())
    withheld = {
        int(row[0])
        for row in warehouse.execute(
            "select row_key ->> %s from quarantine.rows where source_system || '.' || table_name = %s and withheld",
            [_RAW[table][1], table],
        ).fetchall()
    }
    missing = set(wanted) - set(raw) - withheld
    extra = set(raw) - set(wanted)
    other = {key for key in set(wanted) & set(raw) if wanted[key] != raw[key]} - withheld
    said = {"are in neither raw nor quarantine": missing, "are in raw only": extra, "have other content in raw": other}
    return [f"{table}: {len(keys)} rows {what}" for what, keys in said.items() if keys]


@dataclass
class Reader:
    """Reads raw without a pause while loads are published; a partial load is one that it saw a part of.

    All prices have one version in each state that was committed; and a batch has as many rows as its row in
    `ops.loads` says. (The sum of the accounts is no such sign: rows changed again later belong to the next window.)
    """

    warehouse: Database
    writer: Writer
    seen: list[str] = field(default_factory=list)
    looks: int = 0
    _ends: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(30)

    def _read(self) -> None:
        while not self._ends.is_set():
            try:
                with self.warehouse.session() as connection:
                    connection.autocommit = False
                    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                    while not self._ends.is_set():
                        self.look(connection)
                        connection.rollback()
                        self._ends.wait(0.2)
            except _NO_SUCH_TABLE:
                time.sleep(0.5)  # nothing was loaded yet
            except psycopg.Error:
                time.sleep(0.2)  # the warehouse crashed, as it does in the game

    def look(self, connection: psycopg.Connection) -> None:
        """Look once, in one snapshot if the session is of that kind."""
        # Before the snapshot: what is committed later may be below the cursor, and not be known here.
        with self.writer.lock:
            events = dict(self.writer.ledger.events)

        def one(query: str) -> tuple[Any, ...]:
            row = connection.execute(query).fetchone()
            assert row is not None
            return tuple(row)

        checks: dict[str, Callable[[], bool]] = {
            "prices of two versions": lambda: (
                one("select count(distinct version) <= 1 from raw_game.prices") == (True,)
            ),
            "a batch of accounts with other rows than it counted": lambda: (
                one(
                    "select count(*) from (select batch_id, rows_inserted + rows_updated as rows from ops.loads "
                    "where source_system = 'game' and table_name = 'accounts' and status = 'published' "
                    "order by batch_id desc limit 1) as l where l.rows <> (select count(*) from raw_game.accounts as a "
                    "where a._batch_id = l.batch_id and a._deleted_at is null)"
                )
                == (0,)
            ),
            "a batch of events with other rows than it counted": lambda: (
                one(
                    "select count(*) from (select _batch_id, count(*) as rows from raw_game.events group by 1) as e "
                    "left join ops.loads as l on l.batch_id = e._batch_id "
                    "where l.status is distinct from 'published' or l.rows_inserted <> e.rows"
                )
                == (0,)
            ),
            "a cursor ahead of rows": lambda: not ahead(connection, events),
        }
        for what, holds in checks.items():
            if not holds() and what not in self.seen:
                self.seen.append(what)
        self.looks += 1
