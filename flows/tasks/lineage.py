"""OpenLineage events of our runs, if a destination is configured."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import uuid
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State as PrefectState
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.declare.source import Source
from flows.failures.diagnose import diagnose
from flows.kinds.registry import kind_of
from flows.observe.openlineage import (
    Destination,
    LineageRun,
    State,
    database_dataset,
    emit,
    run_event,
)
from flows.values.correlation import correlation_id
from flows.values.errors import MedallionError
from flows.values.settings import settings

_Given = ParamSpec("_Given")


def _harmless(tell: Callable[_Given, Coroutine[Any, Any, None]]) -> Callable[_Given, Coroutine[Any, Any, None]]:
    """Does nothing without a destination; a failure is a warning, and the run continues."""

    @functools.wraps(tell)
    async def told(*given: _Given.args, **named: _Given.kwargs) -> None:
        if not destination().on:
            return
        try:
            await tell(*given, **named)
        except Exception as problem:  # a missing URL, a file that does not parse, …
            _warn(type(problem).__name__)

    return told


def destination() -> Destination:
    """The configured destination of events."""
    chosen = settings()
    key = chosen.openlineage_key.get_secret_value() if chosen.openlineage_key else ""
    return Destination(chosen.openlineage_namespace, chosen.openlineage_url, chosen.openlineage_file, key)


def lineage_run(job: str, flow_run_id: str | None, run_id: int) -> LineageRun:
    """The run of a flow: `ingest.shop`, `transform`. Its id is the flow run's."""
    identifier = uuid.UUID(flow_run_id) if flow_run_id else uuid.uuid4()
    return LineageRun(identifier, job, tags={"run_id": str(run_id), "correlation_id": correlation_id()}, kind="FLOW")


@_harmless
async def tell(state: State, run: LineageRun, error: MedallionError | None = None) -> None:
    """Event for the start or end of a flow."""
    await _send([run_event(destination().namespace, state, run, error=error.what if error else "")])


@_harmless
async def tell_load(
    state: State,
    parent: LineageRun,
    source: Source,
    table: str,
    facts: Mapping[str, Any] | None = None,
    error: str = "",
) -> None:
    """Event for the start or end of a load of one table. `facts` are those of its result."""
    tags = {"batch_id": str(facts["batch_id"])} if facts else {}
    run = parent.part(f"ingest.{source.name}.{table}", kind="LOAD", tags=tags)
    counts = (facts or {}).get("counts", {})
    rows = counts.get("rows_inserted", 0) + counts.get("rows_updated", 0) if facts else None
    columns = await _raw_columns(source.raw_schema, table) if facts else ()
    kind = kind_of(source)
    declared = source.table(table)
    reads = kind.reads(source, declared)
    written = database_dataset(
        addresses.warehouse().url,
        source.raw_schema,
        table,
        columns=columns,
        made_of={
            name: [(read.namespace, read.name, origin) for read in reads]
            for name, *_ in columns
            if (origin := kind.made_of(declared, name)) is not None
        },
        rows=rows,
        bytes=counts.get("bytes"),
    )
    event = run_event(destination().namespace, state, run, inputs=reads, outputs=[written], error=error)
    await _send([event])


@_harmless
async def tell_load_ended(parent: LineageRun, source: Source, table: str, state: PrefectState[dict[str, Any]]) -> None:
    """Event for the end of a load, by its task's state."""
    try:
        facts = await state.aresult()
    except Exception as problem:
        what = diagnose(problem, f"{source.name}.{table}").error.what
        await tell_load("FAIL", parent, source, table, error=what)
    else:
        await tell_load("COMPLETE", parent, source, table, facts)


@_harmless
async def tell_build(parent: LineageRun, target: Path, *, since: float) -> None:
    """Events of a dbt build, from manifest and results in the target folder; none if they are older than `since` (Unix
    time): then dbt did not get that far."""
    results_file = target / "run_results.json"
    if not results_file.exists() or results_file.stat().st_mtime < since:
        return
    from flows.models.build_events import build_events
    from flows.models.manifest import Manifest

    manifest = Manifest.read((target / "manifest.json").read_bytes())
    results = json.loads(results_file.read_text(encoding="utf-8"))
    url = addresses.warehouse("transformer").url
    await _send(list(build_events(destination().namespace, url, manifest, results, parent)))


async def _raw_columns(schema: str, table: str) -> tuple[tuple[str, str, str], ...]:
    from flows.models.relation_columns import relation_columns

    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        return tuple((name, kind, "") for name, kind in (await relation_columns(warehouse, schema, table)).items())


async def _send(events: list[Any]) -> None:
    # A thread: a slow HTTP API must not block parallel loads.
    if problem := await asyncio.to_thread(emit, destination(), events):
        _warn(problem)


def _warn(problem: str) -> None:
    with contextlib.suppress(MissingContextError):
        get_run_logger().warning("lineage events were not sent: %s", problem)
