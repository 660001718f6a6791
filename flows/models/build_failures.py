"""Why a dbt build failed: by PostgreSQL's SQLSTATE per node, with texts that quote no row.

dbt keeps only the text of an error, which may quote rows and is in the server's language. But it fires its events
while the exception is being handled, in the same thread: there the SQLSTATE can still be read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from flows.failures.combined import combined
from flows.failures.diagnose import explain
from flows.failures.missing_grants import missing_grants
from flows.models.lock_waits import NO_LOCK, lock_wait, waited_in_vain
from flows.models.told_errors import permissions_refused, told_answer
from flows.observe.artifacts import NodeLine
from flows.values.connection import DatabaseConnection
from flows.values.errors import FailureClass, MedallionError, WarehouseError
from flows.values.sqlstates import PRIVILEGE_MISSING, STATEMENT_CANCELLED, Answer, explain_answer

WHERE = "dbt build"
_NODE_FAILED = frozenset({"CatchableExceptionOnRun", "GenericExceptionOnRun", "InternalErrorOnRun"})
_BUILD_ENDED = "MainEncounteredError"
_SENT = "what dbt sent is in .medallion/dbt/run"


class Heard:
    """The exceptions behind dbt's events: per node, and the one that ended the build."""

    def __init__(self) -> None:
        self.by_node: dict[str, BaseException] = {}
        self.ended_by: BaseException | None = None

    def hear(self, event: Any) -> None:
        """Record the exception that dbt is handling while it fires this event."""
        problem = sys.exc_info()[1]
        if problem is not None and event.info.name in _NODE_FAILED:
            self.by_node[name_of(event.data.node_info.unique_id)] = problem
        elif problem is not None and event.info.name == _BUILD_ENDED:
            self.ended_by = problem


def name_of(unique_id: str) -> str:
    """`model.medallion.fct_basket_lines` → `fct_basket_lines`."""
    return unique_id.split(".", 2)[2]


def nodes_failed(nodes: Sequence[NodeLine], heard: Heard, address: DatabaseConnection) -> MedallionError:
    """One error for all nodes that could not be built: each cause once, with its nodes."""
    waits = [wait for node in nodes if (wait := lock_wait(node.message)) is not None]
    if len(waits) == len(nodes):
        return waited_in_vain(waits)
    causes = {node.name: _cause(heard.by_node.get(node.name), address) for node in nodes}
    headline = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} could not be built"
    return combined(causes, headline, where=WHERE, kind=WarehouseError)


def build_stopped(problem: BaseException | None, address: DatabaseConnection) -> MedallionError:
    """The error for a build that dbt aborted: it did not reach the warehouse, or could not parse the project."""
    return _cause(problem, address)


def _cause(problem: BaseException | None, address: DatabaseConnection) -> MedallionError:
    for link in _chain(problem):
        if (wait := lock_wait(str(link))) not in (None, NO_LOCK):
            return waited_in_vain([str(wait)])
        if (refused := permissions_refused(str(link))) is not None:
            return WarehouseError(
                refused,
                where=WHERE,
                fix="nothing was replaced; have policies read tables outside of dbt's schemas, or drop what is named, "
                "then run `medallion transform`",
            )
        if (answer := told_answer(link) or Answer.of(link)) is not None:
            return _of_answer(answer, address)
        error = explain(link, WHERE)
        if type(error) is not MedallionError:
            return error
    if problem is None:
        return WarehouseError(
            "dbt reported an error",
            where=WHERE,
            fix="read the node's task run, correct the model, run `medallion transform`",
        )
    # dbt's own errors: a template, a contract, a reference. Their type is shown; their text is in the run's log.
    return WarehouseError(
        f"dbt stopped with {type(problem).__name__}",
        where=WHERE,
        fix="read the run's log, correct the model or dbt_project.yml, run `medallion transform`",
    )


def _of_answer(answer: Answer, address: DatabaseConnection) -> MedallionError:
    grants = missing_grants(address, answer.message) if answer.state == PRIVILEGE_MISSING else ""
    error = explain_answer(answer, WHERE, role=address.user, grants=grants)
    state = answer.state
    if error.failure_class is FailureClass.TRANSIENT:
        error.fix = "run `medallion transform` again; a deployment does so at its next run"
    elif state == STATEMENT_CANCELLED and error.failure_class is FailureClass.RESOURCE:
        error.fix = f"find out why the model is slow, or raise statement_timeout of {address.user}; then run again"
    elif state == "42601":
        error.failure_class = FailureClass.PERMANENT
        error.fix = f"correct the model's SQL ({_SENT}), run `medallion transform`"
    elif state[:2] in {"42", "3F"} and state != PRIVILEGE_MISSING:
        error.failure_class = FailureClass.SCHEMA
        error.fix = f"load what the model reads (`medallion run`), or correct the names in it ({_SENT})"
    elif error.failure_class is FailureClass.DATA:
        error.fix = f"find the rows with the model's SQL ({_SENT}); correct them at the source, or the model"
    return error


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        yield problem
        problem = problem.__cause__ or problem.__context__
