"""The application behind the source: it writes all the time, and keeps a ledger of what it has committed.

The ledger is what the invariants are compared with: neither the platform nor the source's own tables are believed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from infra.gameday.api import GameApi
from infra.gameday.database import Database

_TICK_SECONDS = 0.25
#: How long a transaction is held open, at most.
_HELD_SECONDS = (2.0, 12.0)
#: Accounts that transfer money; those from here on come and go.
BANK, GUESTS_FROM = 100, 1_001


@dataclass
class Ledger:
    """What was committed: rows by key, and the keys that were deleted."""

    events: dict[int, str] = field(default_factory=dict)
    accounts: dict[int, tuple[str, int]] = field(default_factory=dict)
    prices: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    items: dict[int, int] = field(default_factory=dict)
    commits: int = 0
    failures: int = 0


@dataclass
class Writer:
    """Writes in a thread of its own until it is stopped. `pause` returns once nothing of its is open any more."""

    source: Database
    api: GameApi
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    _ends: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _goes: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    #: Held while a change is made, until the ledger has it.
    lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False, repr=False)
    _busy: int = field(default=0, init=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def read(self) -> None:
        """Take into the ledger what is there before it begins."""
        with self.source.session() as connection:
            self.ledger.events = dict(connection.execute("select event_id, note from events").fetchall())
            for key, holder, balance in connection.execute("select account_id, holder, balance from accounts"):
                self.ledger.accounts[key] = (holder, int(balance))
            for key, *rest in connection.execute("select price_id, version, amount::bigint, label from prices"):
                self.ledger.prices[key] = (rest[0], rest[1], rest[2])
        for _ in range(60):
            self._new_item()

    def start(self) -> None:
        """Begin."""
        self.read()
        self._goes.set()
        for name, doing in (("writer", self._write), ("slow writer", self._hold)):
            thread = threading.Thread(target=doing, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End it."""
        self._ends.set()
        self._goes.set()
        for thread in self._threads:
            thread.join(30)

    def lives(self) -> bool:
        """Whether it still writes, or would if it were not paused."""
        return all(thread.is_alive() for thread in self._threads)

    def pause(self) -> None:
        """Write nothing from now on; wait for the end of what is open."""
        with self._counting:
            self._goes.clear()
        while self._busy:
            time.sleep(0.02)

    def resume(self) -> None:
        """Go on."""
        self._goes.set()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """A session for changes of accounts; what they are afterwards is taken into the ledger with the commit."""
        with self.lock, self.source.session() as connection:
            with connection.transaction():
                yield connection
            self._take_accounts(connection)

    def _take_accounts(self, connection: psycopg.Connection) -> None:
        rows = connection.execute("select account_id, holder, balance from accounts").fetchall()
        before = set(self.ledger.accounts)
        self.ledger.accounts = {key: (holder, int(balance)) for key, holder, balance in rows}
        self.ledger.deleted = (self.ledger.deleted | (before - set(self.ledger.accounts))) - set(self.ledger.accounts)
        self.ledger.commits += 1

    # -- the threads

    def _write(self) -> None:
        changes: list[Callable[[psycopg.Connection], None]] = [
            *(3 * [self._add_events]),
            *(4 * [self._transfer]),
            *(2 * [self._change_guest]),
            self._add_guest,
            self._delete_guest,
            self._change_prices,
            lambda _: self._change_items(),
        ]
        for connection in self._sessions():
            self._attempt(self._alone(self.chance.choice(changes)), connection)
            time.sleep(_TICK_SECONDS * self.chance.uniform(0.2, 2))

    def _alone(self, change: Callable[[psycopg.Connection], None]) -> Callable[[psycopg.Connection], None]:
        def doing(connection: psycopg.Connection) -> None:
            with self.lock:
                change(connection)

        return doing

    def _hold(self) -> None:
        """Transactions that begin long before they commit, one after the other."""
        for connection in self._sessions():
            seconds = self.chance.uniform(*_HELD_SECONDS)
            self._attempt(lambda session, seconds=seconds: self.late(session, seconds), connection)  # type: ignore[misc]
            time.sleep(self.chance.uniform(1, 4))

    def late(self, connection: psycopg.Connection, seconds: float) -> None:
        """A transaction that is held open, or until a pause: its rows have the time and numbers of its beginning."""
        deadline = time.monotonic() + seconds
        with ExitStack() as locked:
            with connection.transaction():
                added = [row for _ in range(2) for row in self._event(connection)]
                while time.monotonic() < deadline and self._goes.is_set():
                    time.sleep(0.05)
                # Before it locks rows: whoever has the lock may wait for them.
                locked.enter_context(self.lock)
                moved = self._move(connection, *self._two())
            self.ledger.events.update(added)
            self._moved(moved)

    def _attempt(self, change: Callable[[psycopg.Connection], None], connection: psycopg.Connection) -> None:
        """Make a change. One that the source refuses, as while a table is renamed, is left out."""
        with self._counting:
            if not self._goes.is_set():
                return
            self._busy += 1
        try:
            change(connection)
        except psycopg.Error:
            self.ledger.failures += 1
        finally:
            with self._counting:
                self._busy -= 1

    def _sessions(self) -> Iterator[psycopg.Connection]:
        """A session, again and again; another one when it broke. Waits while it is paused."""
        connection: psycopg.Connection | None = None
        try:
            while not self._ends.is_set():
                self._goes.wait()
                if connection is None or connection.closed:
                    try:
                        connection = psycopg.connect(self.source.url(), autocommit=True, connect_timeout=30)
                    except psycopg.Error:
                        time.sleep(0.5)
                        continue
                yield connection
        finally:
            if connection is not None:
                connection.close()

    # -- the changes

    def _event(self, connection: psycopg.Connection) -> list[tuple[int, str]]:
        note = f"note {self.chance.randrange(10**9)}"
        return connection.execute("insert into events (note) values (%s) returning event_id, note", [note]).fetchall()

    def _add_events(self, connection: psycopg.Connection) -> None:
        with connection.transaction():
            added = [row for _ in range(self.chance.randint(1, 5)) for row in self._event(connection)]
        self.ledger.events.update(added)
        self.ledger.commits += 1

    def _two(self) -> tuple[int, int]:
        first, second = self.chance.sample(range(1, BANK + 1), 2)
        return first, second

    def _move(self, connection: psycopg.Connection, giver: int, taker: int) -> list[tuple[int, str, Any]]:
        # In the order of keys, so that two transfers never wait for each other.
        amounts = {giver: -1, taker: 1}
        return [
            row
            for key in sorted(amounts)
            for row in connection.execute(
                "update accounts set balance = balance + %s, updated_at = now() where account_id = %s "
                "returning account_id, holder, balance",
                [amounts[key], key],
            ).fetchall()
        ]

    def _moved(self, rows: list[tuple[int, str, Any]]) -> None:
        for key, holder, balance in rows:
            self.ledger.accounts[key] = (holder, int(balance))
        self.ledger.commits += 1

    def _transfer(self, connection: psycopg.Connection) -> None:
        with connection.transaction():
            moved = self._move(connection, *self._two())
        self._moved(moved)

    def _guest(self) -> int | None:
        guests = [key for key in self.ledger.accounts if key >= GUESTS_FROM]
        return self.chance.choice(guests) if guests else None

    def _add_guest(self, connection: psycopg.Connection) -> None:
        key = max([GUESTS_FROM, *self.ledger.accounts, *self.ledger.deleted]) + 1
        holder = f"guest {key}" + " of an account" * 20
        connection.execute("insert into accounts (account_id, holder, balance) values (%s, %s, 0)", [key, holder])
        self._moved([(key, holder, 0)])

    def _change_guest(self, connection: psycopg.Connection) -> None:
        changed = connection.execute(
            "update accounts set holder = %s, updated_at = now() where account_id = %s and balance >= 0 "
            "returning account_id, holder, balance",
            [f"guest {self.chance.randrange(10**9)}" + " of an account" * 20, self._guest()],
        ).fetchall()
        self._moved(changed)

    def _delete_guest(self, connection: psycopg.Connection) -> None:
        key = self._guest()
        gone = connection.execute(
            "delete from accounts where account_id = %s and balance >= 0 returning account_id", [key]
        ).fetchall()
        for (number,) in gone:
            del self.ledger.accounts[number]
            self.ledger.deleted.add(number)
        self.ledger.commits += 1

    def _change_prices(self, connection: psycopg.Connection) -> None:
        changed = connection.execute(
            "update prices set version = version + 1, amount = round(amount + 1) "
            "returning price_id, version, amount::bigint, label"
        ).fetchall()
        for key, version, amount, label in changed:
            self.ledger.prices[key] = (version, amount, label)
        self.ledger.commits += 1

    def _new_item(self) -> None:
        with self.api.lock:
            number = max(self.api.items, default=0) + 1
            self.api.items[number] = {"id": number, "stock": 0}
        self.ledger.items[number] = 0

    def _change_items(self) -> None:
        if self.chance.random() < 0.5:
            self._new_item()
            return
        number = self.chance.choice([*self.api.items])
        stock = self.chance.randrange(10**6)
        with self.api.lock:
            self.api.items[number] = {"id": number, "stock": stock}
        self.ledger.items[number] = stock
