"""A dbt build as OpenLineage events: a run for each model, snapshot and seed, one for the tests of each relation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.models.lineage import Lineage
from flows.models.manifest import Manifest, Relation
from flows.observe.openlineage import Dataset, LineageRun, State, database_dataset, run_event

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent


_NOT_RUN = frozenset({"skipped", "no-op"})


def build_events(
    namespace: str, url: str, manifest: Manifest, run_results: Mapping[str, Any], parent: LineageRun
) -> Iterator[RunEvent]:
    """START and COMPLETE or FAIL for everything that ran, with dbt's times. Nodes that were skipped or left have none.

    `url` is the warehouse's connection URL, `run_results` the content of dbt's run_results.json.
    """
    lineage = Lineage(manifest)
    results = {result["unique_id"]: result for result in run_results["results"] if result["status"] not in _NOT_RUN}
    for unique_id, result in results.items():
        relation = manifest.relations.get(unique_id)
        if relation is None:
            continue
        began, ended = _times(result)
        run = parent.part(f"dbt.{relation.name}", kind=relation.kind.upper(), integration="DBT")
        failed = result["status"] == "error"
        inputs = [_dataset(url, manifest.relations[name]) for name in relation.parents if name in manifest.relations]
        rows = (result.get("adapter_response") or {}).get("rows_affected")
        output = _output(
            url, manifest, lineage, relation, None if failed or not isinstance(rows, int) else max(rows, 0)
        )
        yield run_event(namespace, "START", run, at=began, inputs=inputs, outputs=[output])
        state: State = "FAIL" if failed else "COMPLETE"
        yield run_event(
            namespace,
            state,
            run,
            at=ended,
            inputs=inputs,
            outputs=[output],
            error=f"{relation.name} could not be built" if failed else "",
        )
    yield from _tests(namespace, url, manifest, results, parent)


def _tests(
    namespace: str, url: str, manifest: Manifest, results: Mapping[str, Mapping[str, Any]], parent: LineageRun
) -> Iterator[RunEvent]:
    asserted: dict[str, list[tuple[str, str, bool, str]]] = {}
    times: dict[str, list[datetime]] = {}
    for unique_id, result in results.items():
        test = manifest.tests.get(unique_id)
        tested = (test or {}).get("attached_node")
        if test is None or tested not in manifest.relations:
            continue
        severity = str((test.get("config") or {}).get("severity") or "error").lower()
        passed = result["status"] == "pass"
        asserted.setdefault(tested, []).append((test["name"], test.get("column_name") or "", passed, severity))
        times.setdefault(tested, []).extend(moment for moment in _times(result) if moment)
    for tested, assertions in asserted.items():
        relation = manifest.relations[tested]
        run = parent.part(f"dbt.{relation.name}.tests", kind="TEST", integration="DBT")
        broken = any(not passed and severity == "error" for _, _, passed, severity in assertions)
        moments = times[tested]
        first, last = (min(moments), max(moments)) if moments else (None, None)
        yield run_event(namespace, "START", run, at=first, inputs=[_dataset(url, relation)])
        yield run_event(
            namespace,
            "FAIL" if broken else "COMPLETE",
            run,
            at=last,
            inputs=[_dataset(url, relation, assertions=tuple(assertions))],
            error=f"tests of {relation.name} failed" if broken else "",
        )


def _times(result: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    timing = {part["name"]: part for part in result.get("timing") or []}
    if not timing:
        return None, None
    began = min(part["started_at"] for part in timing.values())
    ended = max(part["completed_at"] for part in timing.values())
    return _moment(began), _moment(ended)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _dataset(url: str, relation: Relation, **rest: Any) -> Dataset:
    columns = tuple(
        (name, str(column.get("data_type") or ""), " ".join((column.get("description") or "").split()))
        for name, column in relation.columns.items()
    )
    return database_dataset(url, relation.schema, relation.identifier, columns=columns, **rest)


def _output(url: str, manifest: Manifest, lineage: Lineage, relation: Relation, rows: int | None) -> Dataset:
    made_of = {}
    for column, parents in lineage.columns(relation.unique_id).items():
        named = [(_dataset(url, manifest.relations[parent]), name) for parent, name in parents]
        made_of[column] = [(dataset.namespace, dataset.name, name) for dataset, name in named]
    return _dataset(url, relation, made_of=made_of, rows=rows)
