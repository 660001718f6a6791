"""Sessions that are kept: those of a test's own from one look to the next, and those of its loads.

Each new one takes 4 to 9 ms of a core, and the first statements in it as long again.

Most tests look at both ends after each load, and three of five sessions of a run were begun for one look. A kept one
belongs to one thread, since a statement that waits would keep another thread's waiting behind it. It outlasts no
database: `forget` closes those of a database that goes, or that is copied.
"""

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg

from flows.access import kept_sessions

Answer = TypeVar("Answer")
Session = psycopg.Connection[Any]

#: Enough for both ends, as an application and as an administrator.
MOST = 4
#: What holds for sessions that begin later, or would stay with a session.
_OF_SESSIONS = re.compile(
    r"\balter\s+(role|user|database|system)\b|^\s*(set|reset|discard|listen|prepare)\b", re.MULTILINE
)

#: Roles that may have a few sessions only, in all tests that run at the time.
_FEW = re.compile(r"//medallion_(reviewer|reader|dashboard)\b")

_of_threads: list[OrderedDict[str, Session]] = []
_ours = threading.local()


def in_session(url: str, statement: str, ask: Callable[[Session], Answer]) -> Answer:
    """What `ask` gets from a session there that commits each statement; `statement` is what it runs."""
    if _FEW.search(url) or _OF_SESSIONS.search(statement.lower()):
        forget()
        with psycopg.connect(url, autocommit=True) as alone:
            return ask(alone)
    kept = _kept()
    known = kept.get(url)
    if known is not None and not known.closed:
        kept.move_to_end(url)
        try:
            return ask(known)
        except psycopg.OperationalError:
            # It was ended meanwhile, with its server or by a test, and the statement reached nobody.
            if not known.closed:
                raise
    # Nothing is prepared: tables change between two looks.
    session = kept[url] = psycopg.connect(url, autocommit=True, prepare_threshold=None)
    while len(kept) > MOST:
        kept.popitem(last=False)[1].close()
    return ask(session)


def run_alone(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement in a session that knows what holds for sessions now: a role's settings, its limits."""
    with psycopg.connect(url, autocommit=True) as alone:
        cursor = alone.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def forget(database: str | None = None) -> None:
    """Close the kept sessions of all threads: those of that database, or all."""
    for kept in _of_threads:
        for url in [*kept]:
            if database is None or urlsplit(url).path.strip("/") == database:
                kept.pop(url).close()


def _kept() -> OrderedDict[str, Session]:
    if not hasattr(_ours, "kept"):
        _ours.kept = OrderedDict()
        _of_threads.append(_ours.kept)
    kept: OrderedDict[str, Session] = _ours.kept
    return kept


def take_over_sessions() -> None:
    """Until the test's task ends, loads in it take over each other's sessions, as those of a run do."""
    keeper = kept_sessions._keeper.get()
    task = asyncio.current_task()
    if task is None or (keeper is not None and keeper.is_open_here):
        return
    ours = kept_sessions._Keeper()
    kept_sessions._keeper.set(ours)

    def end(_: asyncio.Task[Any]) -> None:
        for kept in [kept for idle in ours._idle.values() for kept in idle]:
            kept.connection.terminate()

    task.add_done_callback(end)
