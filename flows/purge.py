"""Flow purge: show data past its retention period, or delete it in batches and record it. Runs nightly.

Unattended deletion uses declared periods only (flows/sources/retention.py), which are reviewed as code; rows that
still exist at the source have no retention period.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from flows.access import addresses
from flows.landing.table import Target
from flows.observe.markdown import cell
from flows.operations.compared_columns import roll_up
from flows.privacy.places import find_places
from flows.privacy.terms import BATCH_ROWS, Overdue, delete_batch, overdue, write_down
from flows.sources.retention import LANDING_DAYS, RESULT_DAYS, RETENTION
from flows.state import ledger, table_locks
from flows.tasks import begin
from flows.tasks.correlation import correlated_run
from flows.values.identifiers import qualified
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: What the names of helper tables have after that of their landing table; a landing table's own name never ends so.
_HELPER = re.compile(r"(__[a-z])*")
#: Days ago: the days whose profiles of loads are about to be deleted.
_ROLLED_UP_SINCE, _ROLLED_UP_UNTIL = 120, 89


@dataclass(frozen=True, slots=True)
class Line:
    """Data past its retention period in one place: rows of a table, a landing table, files."""

    place: str
    days: int
    older_than: datetime
    count: int
    what: str


@flow(name="purge", flow_run_name="purge", result_serializer="json", persist_result=True)
async def purge(delete: bool = True) -> dict[str, int]:
    """Delete data past its retention period, or with `delete=False` only count it; returns the count per place.

    Raises:
        MedallionError: the warehouse cannot be reached, or refuses. Deletions until then are recorded.
    """
    begin.begin()
    with correlated_run("purge"):
        lines = await purge_expired(delete=delete)
    rows = "".join(f"| {cell(line.place)} | {line.days} days | {line.count} {line.what} |\n" for line in lines)
    done = "deleted" if delete else "past its retention period"
    await acreate_markdown_artifact(
        key="purge",
        markdown=f"# Retention\n\n| place | kept for | {done} |\n| --- | --- | --- |\n{rows}",
        description=f"Data {done}" if lines else "Nothing is past its retention period",
    )
    return {line.place: line.count for line in lines}


async def purge_expired(*, delete: bool, results: Path | None = None, batch_rows: int = BATCH_ROWS) -> list[Line]:
    """Data past its retention period; with `delete`, deleted data. `results`: the folder of persisted results.

    A kill loses nothing: every batch commits separately, and the next call continues.
    """
    lines: list[Line] = []
    async with (
        addresses.connect(addresses.warehouse(), side="warehouse", application="medallion purge") as loader,
        addresses.connect(
            addresses.warehouse("transformer"), side="warehouse", application="medallion purge"
        ) as transformer,
    ):
        if delete:
            await ledger.ensure_schema(loader)
            # Of loads whose profiles are deleted, those of the day remain, also if no watch ran then.
            today = datetime.now(UTC).date()
            await roll_up(loader, today - timedelta(days=_ROLLED_UP_SINCE), today - timedelta(days=_ROLLED_UP_UNTIL))
        owners: set[str] = set()
        for connection in (loader, transformer):
            role = await connection.fetchval("select current_user")
            if role in owners:
                continue
            owners.add(role)
            owned = [place for place in await find_places(connection) if place.owner == role]
            for term in RETENTION:  # in order: a run's rows are deleted before the run
                for line in await overdue(connection, owned, (term,)):
                    rows = await _delete(connection, loader, line, batch_rows) if delete else line.rows
                    lines.append(Line(line.place.told, line.keep.days, line.older_than, rows, "rows"))
        lines += await _landing(loader, delete=delete)
    return [
        *lines,
        *_results(results or _own_results(), delete=delete),
        *_dbt_folders(settings().home / "dbt", delete=delete),
    ]


async def _delete(connection: Connection[Record], loader: Connection[Record], line: Overdue, batch_rows: int) -> int:
    gone = 0
    while True:
        async with connection.transaction():
            rows = await delete_batch(connection, line, batch_rows)
            if rows and connection is loader:
                await write_down(loader, line.place.told, line.older_than, rows)
        if rows and connection is not loader:
            await write_down(loader, line.place.told, line.older_than, rows)
        gone += rows
        if rows < batch_rows:
            return gone


async def _landing(loader: Connection[Record], *, delete: bool) -> list[Line]:
    """Landing tables of loads that ended long ago, with their helper tables, under the lock of the table's loads.

    A replay has tables of its own, which the loads of the table do not drop after it was killed.
    """
    older_than = datetime.now(UTC) - timedelta(days=LANDING_DAYS)
    ended = await loader.fetch(
        "select source_system, table_name, max(coalesce(finished_at, started_at)) < $1 as all_ended from ops.loads "
        "group by 1, 2 having coalesce(max(coalesce(finished_at, started_at)) filter (where strategy = 'replay'), "
        "'-infinity') < $1 order by 1, 2",
        older_than,
    )
    tables = [
        row["relname"]
        for row in await loader.fetch(
            "select relname from pg_class where relnamespace = 'landing'::regnamespace and relkind = 'r' order by 1"
        )
    ]
    lines = []
    for source, table, all_ended in ended:
        name = Target(source, table, f"raw_{source}").landing_name
        own = [each for each in tables if each.startswith(name) and _HELPER.fullmatch(each, len(name))]
        left = own if all_ended else [each for each in own if each.startswith((f"{name}__r", f"{name}__j"))]
        if not left or not await table_locks.lock_table(loader, source, table):
            continue
        try:
            names = [qualified("landing", each) for each in left]
            rows = 0
            for each in names:
                rows += await loader.fetchval(f"select count(*) from {each}")
            if delete:
                async with loader.transaction():
                    await loader.execute(f"drop table {', '.join(names)}")
                    await write_down(loader, f"landing of {source}.{table}", older_than, rows)
        finally:
            await table_locks.unlock_table(loader, source, table)
        lines.append(Line(f"landing of {source}.{table}", LANDING_DAYS, older_than, rows, "rows, with their table"))
    return lines


def _own_results() -> Path | None:
    """The folder of runs' results, if it is in our home: Prefect's default folder may have other projects' results."""
    folder = PREFECT_LOCAL_STORAGE_PATH.value().resolve()
    return folder if folder.is_relative_to(settings().home) else None


def _results(folder: Path | None, *, delete: bool) -> list[Line]:
    if folder is None:
        return []
    older_than = time.time() - RESULT_DAYS * 86_400
    old = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime < older_than]
    if delete:
        for path in old:
            path.unlink(missing_ok=True)
    return _files("results of runs", older_than, len(old), "files")


def _dbt_folders(folder: Path, *, delete: bool) -> list[Line]:
    """dbt's folders of private builds, releases and pull requests, 7 MB each: dbt reparses without them."""
    older_than = time.time() - RESULT_DAYS * 86_400
    manifests = [*folder.glob("*/manifest.json"), *folder.glob("state/*/manifest.json")]
    old = [path.parent for path in manifests if path.stat().st_mtime < older_than]
    if delete:
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
    return _files("dbt's folders of private builds", older_than, len(old), "folders")


def _files(place: str, older_than: float, count: int, what: str) -> list[Line]:
    return [Line(place, RESULT_DAYS, datetime.fromtimestamp(older_than, UTC), count, what)] if count else []
