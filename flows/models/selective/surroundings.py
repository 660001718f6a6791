"""What decides the results of all models besides their code and inputs: settings, functions, and the day."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg

from flows.values.correlation import application_name


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`today` is the date in the time zone of dbt's sessions, `quarter` a number that grows each quarter of an hour.

    `functions` are the names, in lower case, of functions of the warehouse that may give another result for the same
    arguments. `fingerprint` is that of settings, functions, extensions, collation and version of the server.
    """

    today: str
    quarter: str = ""
    functions: frozenset[str] = frozenset()
    fingerprint: str = ""


async def surroundings(url: str) -> Surroundings:
    """As a session of libpq has them, which dbt's are too: ours are set to UTC, whatever role and database say."""
    return await asyncio.to_thread(_read, url)


def _read(url: str) -> Surroundings:
    with psycopg.connect(url, autocommit=True, application_name=application_name("medallion")) as session:
        row = session.execute(_sql()).fetchone()
    assert row is not None
    today, quarter, functions, fingerprint = row
    return Surroundings(today, quarter, frozenset(functions or ()), fingerprint)


@cache
def _sql() -> bytes:
    return Path(__file__).with_name("surroundings.sql").read_bytes()
