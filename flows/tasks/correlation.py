"""The correlation id at Prefect: a tag of each flow run and task run, by which its interface and its API find them.

A tag also hands an id to a worker: a flow run that was created with the tag `correlation:abc` works under `abc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from flows.observe.tracing import span
from flows.values.correlation import NONE, cleaned, correlated, known_here

#: Before the id in a tag of Prefect.
TAG = "correlation:"


@contextmanager
def tagged_runs() -> Iterator[str]:
    """Flow runs and task runs that start inside work under one id, and are tagged with it.

    The id is that of this context, else that of the flow run's tags, else the environment's, else a new one.
    """
    with correlated(known_here() or _of_tags()) as identifier, tags(f"{TAG}{identifier}"):
        _tag_flow_run(identifier)
        yield identifier


@contextmanager
def correlated_run(name: str, **attributes: str | int) -> Iterator[str]:
    """The work of a flow run: under one id, tagged with it, and as a span."""
    with tagged_runs() as identifier, span(name, **attributes, **_facts()):
        yield identifier


def _of_tags() -> str | None:
    return next((cleaned(tag.removeprefix(TAG)) for tag in _tags() if tag.startswith(TAG)), None)


def _tags() -> list[str]:
    context = FlowRunContext.get()
    return list(context.flow_run.tags) if context is not None and context.flow_run is not None else []


def _facts() -> dict[str, str]:
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    return {} if run is None else {"prefect.flow_run.id": str(run.id), "prefect.flow_run.name": run.name}


def _tag_flow_run(identifier: str) -> None:
    """Tag the current flow run, unless it was created with the tag: what a schedule creates is not."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or identifier == NONE or f"{TAG}{identifier}" in _tags():
        return
    context.flow_run.tags.append(f"{TAG}{identifier}")
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=context.flow_run.tags)
    except Exception as problem:  # without its tag the run is harder to find, and does its work all the same
        with suppress(Exception):
            get_run_logger().warning("the flow run could not be tagged (%s)", type(problem).__name__)
