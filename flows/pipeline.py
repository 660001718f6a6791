"""Flow pipeline: ingest all sources in parallel → transform. A failed source does not keep the others from gold."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings

from flows.declare.budget import STOPPED_AT_BUDGET, chosen_budget
from flows.failures.combined import combined
from flows.failures.diagnose import diagnose
from flows.ingest import ingest
from flows.observe.artifacts import links_markdown
from flows.publish.budget import shared_budgets
from flows.sources import SOURCES
from flows.tasks import begin
from flows.tasks.budgets import stopped_at_budget
from flows.tasks.correlation import correlated_run
from flows.tasks.preload import preloading
from flows.transform import transform
from flows.values.errors import MedallionError
from flows.verbs.find import find_source


@flow(name="pipeline", flow_run_name="pipeline", result_serializer="json", persist_result=True)
def pipeline(
    sources: list[str] | None = None,
    full_refresh: bool = False,
    max_rows: int | None = None,
    max_bytes: str | None = None,
    max_minutes: float | None = None,
    max_cost: float | None = None,
) -> dict[str, Any]:
    """Ingest the named sources (default: all) in parallel, then transform what arrived.

    `max_…`: the budget of all loads of this run together, as for `ingest`.

    Raises:
        MedallionError: of the failed source, or of transform; after everything else has run.
    """
    begin.begin()
    chosen = sources or [source.name for source in SOURCES]
    for name in chosen:
        find_source(name)
    budget = chosen_budget(max_rows, max_bytes, max_minutes, max_cost)
    with correlated_run("pipeline"), shared_budgets(("the run", budget)):
        with preloading():
            errors, stopped = asyncio.run(_ingest_all(chosen))
        if len(errors) == len(chosen):
            raise together(errors)
        state: State[dict[str, Any]] = transform(full_refresh=full_refresh, return_state=True)
        facts: dict[str, Any] = {}
        try:
            facts = state.result()
        except Exception as problem:
            # A failed source may be the cause: models need tables that it has never loaded.
            errors["transform"] = diagnose(problem, "transform").error
        _show_links(chosen)
        if errors:
            raise together(errors)
    return facts if not stopped else stopped_at_budget(facts)  # type: ignore[return-value]


def _show_links(sources: list[str]) -> None:
    """An artifact with links to every page of this run."""
    pages = {f"loads of {source}": f"loads-{source.replace('_', '-')}" for source in sources}
    pages |= {"gate raw": "gate-raw", "dbt build": "dbt-build", "gate gold": "gate-gold"}
    ui = get_current_settings().ui_url
    if not ui:
        return
    links = {"this run": f"{ui}/runs/flow-run/{begin.current_flow_run_id()}"}
    links |= {name: f"{ui}/artifacts/key/{key}" for name, key in pages.items()}
    create_markdown_artifact(
        key="links", markdown=f"# Links\n\n{links_markdown(links)}", description="Links to this run's pages"
    )


async def _ingest_all(sources: list[str]) -> tuple[dict[str, MedallionError], bool]:
    """Ingest in parallel; returns the errors by source, and whether a load stopped at a budget."""
    states = await asyncio.gather(*(ingest(source, return_state=True) for source in sources))
    errors = {}
    for source, state in zip(sources, states, strict=True):
        try:
            await state.aresult()
        except Exception as problem:
            errors[source] = diagnose(problem, f"source {source}").error
    return errors, any(state.name == STOPPED_AT_BUDGET for state in states)


def together(errors: dict[str, MedallionError]) -> MedallionError:
    """One error for parallel failures: the error itself, or all in one with the worst exit code."""
    if len(errors) == 1:
        return next(iter(errors.values()))
    return combined(errors, f"{len(errors)} parts failed", where="pipeline")
