"""Sources of dlt for the tests, named by import path as users name theirs; tests write the file of their records."""

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
from dlt.sources.rest_api import rest_api_source
from dlt.sources.sql_database import sql_table

RECORDS_VARIABLE = "DLT_TEST_RECORDS"
SECRET = "zqcanary-dlt-9f31"  # looked for in everything that a load leaves behind


def records() -> list[dict[str, Any]]:
    """What the test wrote into the file."""
    held: list[dict[str, Any]] = json.loads(Path(os.environ[RECORDS_VARIABLE]).read_text(encoding="utf-8"))
    return held


def entries() -> Any:
    """A log whose records are only added: one read twice, or never, shows."""

    @dlt.resource(name="entries", write_disposition="append")
    def log(changed: Any = dlt.sources.incremental("changed_at")) -> Iterator[Any]:  # noqa: B008
        remembered = dlt.current.resource_state()
        remembered["reads"] = remembered.get("reads", 0) + 1
        for record in records():
            yield record
            if record.get("breaks"):
                raise LookupError(f"no {SECRET} in {record}")

    return log


def things() -> Any:
    """Things matched by key, some of which say that they are deleted, with what hangs on each."""

    @dlt.resource(primary_key="id", write_disposition="merge", columns={"gone": {"hard_delete": True}})
    def things() -> Iterator[Any]:
        yield records()

    @dlt.transformer(data_from=things, primary_key="id", write_disposition="replace", parallelized=True)
    def parts(held: list[Any]) -> Iterator[Any]:
        for thing in held:
            yield [{"id": f"{thing['id']}a"}, {"id": f"{thing['id']}b"}]

    @dlt.transformer(data_from=things, primary_key="id", write_disposition="replace")
    async def slow_parts(held: list[Any]) -> Any:
        return [{"id": thing["id"], "key": len(dlt.secrets["api_key"])} for thing in held]

    return [things, parts, slow_parts]


def guests(url: str, key: str) -> Any:
    """People: a list that can be read, and one that fails midway in words that quote its records and its key."""

    @dlt.resource(primary_key="id", write_disposition="merge")
    def arrivals(changed: Any = dlt.sources.incremental("changed_at")) -> Iterator[Any]:  # noqa: B008
        yield records()

    @dlt.resource(primary_key="id", write_disposition="merge")
    def departures() -> Iterator[Any]:
        for record in records():
            yield record
            raise LookupError(f"{url} answers {key}: no {record}")

    return [arrivals, departures]


def needs_a_secret() -> Any:
    """A source whose key dlt must find somewhere."""

    @dlt.source(name="vault", section="vault")
    def vault(api_key: str = dlt.secrets.value, port: int = 443) -> Any:
        return dlt.resource([{"id": 1}], name="keys", primary_key="id", write_disposition="merge")

    return vault()


def shop_api(url: str, key: str) -> Any:
    """dlt's own REST source, with a key of ours."""
    return rest_api_source(
        {
            "client": {
                "base_url": url,
                "auth": {"type": "bearer", "token": key},
                "paginator": {"type": "json_link", "next_url_path": "next"},
            },
            "resources": [
                {
                    "name": "orders",
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": "orders",
                        "data_selector": "data",
                        "incremental": {"start_param": "since", "cursor_path": "changed_at", "initial_value": "2026"},
                    },
                }
            ],
        }
    )


def till(url: str) -> Any:
    """dlt's own SQL source, by way of Arrow."""
    return sql_table(
        credentials=url,
        table="slips",
        backend="pyarrow",
        chunk_size=3,
        incremental=dlt.sources.incremental("changed_at"),
        reflection_level="full_with_precision",
    )


FRAMES: list[Any] = []


def frames() -> Any:
    """The tables that the test left in FRAMES."""
    return dlt.resource(FRAMES, name="frames", primary_key="id", write_disposition="merge")


def numbers() -> Any:
    """More than a process may hold at one time: 100,000 records of 1 kB."""

    @dlt.resource(primary_key="id", write_disposition="replace")
    def numbers() -> Iterator[Any]:
        for page in range(1000):
            yield [{"id": page * 100 + n, "text": f"{n:01000}"} for n in range(100)]

    return numbers


def how_many() -> int:
    """What the source says it holds."""
    return len(records())


def at(second: int) -> str:
    """A moment as the records have it."""
    return (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second)).isoformat()


def table(**columns: Any) -> pa.Table:
    """An Arrow table."""
    return pa.table(columns)
