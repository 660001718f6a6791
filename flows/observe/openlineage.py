"""OpenLineage events: what ran, what it read, what it wrote. Off unless a destination is configured.

MEDALLION_OPENLINEAGE_URL=https://marquez.example.com   an HTTP API, with MEDALLION_OPENLINEAGE_KEY
MEDALLION_OPENLINEAGE_FILE=/var/log/lineage.jsonl       a file, one event per line

A run's id is the Prefect flow run's; the runs of its tables and models derive theirs from it, and name it as parent.
A run never fails because of lineage: `emit` returns a failure, it does not raise it.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport import Transport

PRODUCER = "urn:medallion"
_TIMEOUT_SECONDS = 5.0

State = Literal["START", "COMPLETE", "FAIL", "ABORT"]


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of events, and the namespace of jobs. `key` is sent as a bearer token."""

    namespace: str
    url: str = ""
    file: Path | None = None
    key: str = field(default="", repr=False)

    @property
    def on(self) -> bool:
        """Whether a destination is configured."""
        return bool(self.url or self.file)


@dataclass(frozen=True, slots=True)
class LineageRun:
    """One run of one job. `tags` are ids of our own records: run, batch, correlation id."""

    run_id: uuid.UUID
    job: str
    parent: LineageRun | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    kind: str = "JOB"
    integration: str = "MEDALLION"

    def part(
        self, job: str, *, kind: str, integration: str = "MEDALLION", tags: Mapping[str, str] | None = None
    ) -> LineageRun:
        """The run of a part of this one; its id is derived, so the same part always has the same id."""
        return LineageRun(uuid.uuid5(self.run_id, job), job, self, {**self.tags, **(tags or {})}, kind, integration)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table, or a list of an API, named as OpenLineage names it.

    `columns` are (name, type, description); `made_of` has the upstream columns of each column, as (namespace,
    name, column).
    """

    namespace: str
    name: str
    columns: Sequence[tuple[str, str, str]] = ()
    made_of: Mapping[str, Iterable[tuple[str, str, str]]] = field(default_factory=dict)
    rows: int | None = None
    bytes: int | None = None
    #: (assertion, column or "", passed, severity)
    assertions: Sequence[tuple[str, str, bool, str]] = ()


def database_dataset(url: str, schema: str, table: str, **rest: Any) -> Dataset:
    """A table by its database's URL: `postgres://db.example.com:5432` and `warehouse.gold.dim_store`."""
    parts = urlsplit(url)
    engine = {"postgresql": "postgres"}.get(parts.scheme.partition("+")[0], parts.scheme.partition("+")[0])
    port = parts.port or {"postgres": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433}.get(engine)
    namespace = f"{engine}://{parts.hostname or 'localhost'}" + (f":{port}" if port else "")
    database = parts.path.lstrip("/")
    return Dataset(namespace, ".".join(part for part in (database, schema, table) if part), **rest)


def api_dataset(url: str, path: str, **rest: Any) -> Dataset:
    """A list of an API: its host, and the path without query."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    return Dataset(f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else ""), path.lstrip("/"), **rest)


def run_event(
    namespace: str,
    state: State,
    run: LineageRun,
    *,
    at: datetime | None = None,
    inputs: Sequence[Dataset] = (),
    outputs: Sequence[Dataset] = (),
    error: str = "",
) -> RunEvent:
    """One event. `error` must not contain secrets or values of rows."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import error_message_run, job_type_job, parent_run, tags_run

    facets: dict[str, Any] = {}
    if run.parent is not None:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=str(run.parent.run_id)), job=parent_run.Job(namespace, run.parent.job)
        )
    if run.tags:
        facets["tags"] = tags_run.TagsRunFacet(
            [tags_run.TagsRunFacetFields(key, value, "MEDALLION") for key, value in run.tags.items()]
        )
    if error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "Python")
    job_type = job_type_job.JobTypeJobFacet("BATCH", run.integration, run.kind)
    event = RunEvent(
        eventTime=(at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        eventType=RunState(state),
        run=Run(str(run.run_id), facets),
        job=Job(namespace, run.job, {"jobType": job_type}),
        inputs=[_input(dataset) for dataset in inputs],
        outputs=[_output(dataset) for dataset in outputs],
        producer=PRODUCER,
    )
    return event


def _facets(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import column_lineage_dataset as lineage
    from openlineage.client.facet_v2 import schema_dataset

    facets: dict[str, Any] = {}
    if dataset.columns:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [
                schema_dataset.SchemaDatasetFacetFields(
                    name, kind or None, about or None, ordinal_position=place, fields=None
                )
                for place, (name, kind, about) in enumerate(dataset.columns, start=1)
            ]
        )
    made_of = {column: sorted(origins) for column, origins in dataset.made_of.items()}
    if any(made_of.values()):
        facets["columnLineage"] = lineage.ColumnLineageDatasetFacet(
            {
                column: lineage.Fields(
                    [
                        lineage.InputField(namespace, name, name_of_column, [lineage.Transformation("DIRECT")])
                        for namespace, name, name_of_column in origins
                    ]
                )
                for column, origins in made_of.items()
                if origins
            }
        )
    return facets


def _input(dataset: Dataset) -> Any:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    found: dict[str, Any] = {}
    if dataset.assertions:
        found["dataQualityAssertions"] = quality.DataQualityAssertionsDatasetFacet(
            [
                quality.Assertion(name, passed, column=column or None, severity=severity)
                for name, column, passed, severity in dataset.assertions
            ]
        )
    return InputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), inputFacets=found)


def _output(dataset: Dataset) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    found: dict[str, Any] = {}
    if dataset.rows is not None or dataset.bytes is not None:
        found["outputStatistics"] = statistics.OutputStatisticsOutputDatasetFacet(dataset.rows, dataset.bytes)
    return OutputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), outputFacets=found)


def emit(destination: Destination, events: Sequence[RunEvent]) -> str:
    """Send the events in order. Returns a short description of the failure, or nothing."""
    if not destination.on:
        return ""
    sent = 0
    try:
        for transport in _transports(destination):
            for event in events:
                transport.emit(event)
                sent += 1
    except Exception as problem:  # whatever a transport raises: the run continues
        return f"{type(problem).__name__} after {sent} of {len(events)} events"
    return ""


@functools.cache
def _transports(destination: Destination) -> tuple[Transport, ...]:
    from openlineage.client.transport.file import FileConfig, FileTransport
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

    found: list[Transport] = []
    if destination.file is not None:
        destination.file.parent.mkdir(parents=True, exist_ok=True)
        found.append(FileTransport(FileConfig(log_file_path=str(destination.file), append=True)))
    if destination.url:
        # Two attempts, then the flow continues without lineage.
        token = ApiKeyTokenProvider({"apiKey": destination.key}) if destination.key else TokenProvider({})
        config = HttpConfig(url=destination.url, timeout=_TIMEOUT_SECONDS, retry={"total": 1}, auth=token)
        found.append(HttpTransport(config))
    return tuple(found)
