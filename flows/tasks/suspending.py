"""A deployment's run that waits for a decision is suspended, with a form in Prefect's UI, and goes on after the answer.

    heard = await hear_form()          at the start of a flow: what was answered in the form; what the run goes on with
    ...
    await suspend_for(error)           at its end, if it was refused: ends this process if the run waits

A suspended run has no process. After the answer a worker starts it again, from its beginning: it loads the tables that
waited, which reads them again, and no others. Only runs of deployments can be suspended, and no subflows: others end
with the error, and the next run takes the answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.input.actions import aread_flow_run_input
from prefect.input.run_input import Keyset, keyset_from_base_key
from prefect.logging import get_run_logger
from pydantic import Field, create_model

from flows.access import addresses
from flows.failures.combined import parts_of
from flows.observe.markdown import cell
from flows.state import decisions
from flows.state.decisions import Decision
from flows.values.errors import DecisionNeeded, MedallionError

_DECISION = "decision_"


async def hear_form() -> list[str]:
    """Record what a person answered in the form of this flow run; the subjects that it goes on with, if it waited.

    Whoever answered first decides. The form's answer to a closed question is only told in the log.
    """
    run_id = _suspendable()
    if run_id is None:
        return []
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        if not await warehouse.fetchval("select to_regclass('ops.decisions') is not null"):
            return []
        asked = await decisions.find(warehouse, "d.flow_run_id = $1 and d.used_at is null", str(run_id))
        if not asked:
            return []
        response: Any = await aread_flow_run_input(_keyset(asked)["response"], flow_run_id=run_id)
        given: dict[str, Any] = response or {}
        for one in asked:
            if (answer := given.get(f"{_DECISION}{one.decision_id}")) is None:
                continue
            try:
                won = await decisions.answer(
                    warehouse,
                    one.decision_id,
                    accept=answer == "accept",
                    by=str(given.get("name", "")),
                    reason=str(given.get("reason", "")),
                    through="form",
                )
            except MedallionError as problem:
                get_run_logger().error("the form's answer does not count: %s", problem)
                continue
            after = await decisions.need(warehouse, one.decision_id)
            told = "%s" if won else "%s before the form was sent: the first answer counts"
            get_run_logger().info(f"decision %s: {told}", one.decision_id, after.outcome)
    subjects = sorted({one.subject for one in asked})
    get_run_logger().info("going on with %s, which is read again", ", ".join(subjects))
    return subjects


async def suspend_for(error: MedallionError) -> None:
    """Suspend this flow run until its questions are answered, if it asked them and nothing else is wrong.

    Raises:
        Pause: of Prefect, which ends the process. The run fails at the server if nobody answers in time.
    """
    run_id = _suspendable()
    parts = parts_of({"run": error}).values()
    if run_id is None or not all(isinstance(part, DecisionNeeded) for part in parts):
        return
    numbers = [part.__dict__["decision"] for part in parts]
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        asked = await decisions.find(
            warehouse,
            "d.decision_id = any($1::bigint []) and d.status = 'open' and d.flow_run_id = $2",
            numbers,
            str(run_id),
        )
        by_role = await warehouse.fetchval("select ops.has_approvers()")
    if len(asked) < len(set(numbers)):
        return  # another run asked, and waits for the answer
    seconds = min((one.expires_at - datetime.now(UTC)).total_seconds() for one in asked)
    # A name that is typed into a form proves nothing where roles are named that may answer.
    await asuspend_flow_run(
        wait_for_input=None if by_role else form(asked), timeout=max(1, int(seconds)), key=_pause_key(asked)
    )


def form(asked: Sequence[Decision]) -> type[RunInput]:
    """One choice per question, a name and a reason."""
    choices: dict[str, Any] = {
        f"{_DECISION}{one.decision_id}": (
            Literal["accept", "refuse"],
            Field(title=f"Decision {one.decision_id}: {one.subject}, {one.kind}"),
        )
        for one in asked
    }
    made: type[RunInput] = create_model(
        "Decision",
        __base__=RunInput,
        **choices,
        name=(str, Field(min_length=1, title="Your name", description="It is recorded with the answer")),
        reason=(str, Field(min_length=1, title="Reason", description="Why; it is recorded with the answer")),
    )
    made._description = "\n\n".join(_told(one) for one in asked)
    return made


def _told(one: Decision) -> str:
    shown = {**one.plan["counts"], **one.plan["exact"]}
    lines = [
        f"plan: {one.plan_digest}",
        *(f"{name}: {value}" for name, value in shown.items()),
        f"requested by: {one.requested_by}",
    ]
    if one.two_persons:
        lines.append("who requested it may not accept it")
    lines.append(f"refused at {one.expires_at:%Y-%m-%d %H:%M} UTC unless somebody answers")
    listed = "\n".join(f"- {cell(line)}" for line in lines)
    return f"**Decision {one.decision_id}** {cell(one.subject)}: {cell(one.what)}\n\n{listed}"


def resume_run(asked: Sequence[Decision]) -> bool:
    """Resume the flow run that asked these, which all have an answer; False if it does not wait any more."""
    flow_run_id = UUID(asked[-1].flow_run_id or "")
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id).state
        if state is None or not state.is_paused():
            return False
        given: dict[str, Any] | None = None
        if state.state_details.run_input_keyset:
            schema = json.loads(client.read_flow_run_input(flow_run_id, state.state_details.run_input_keyset["schema"]))
            answers = {f"{_DECISION}{one.decision_id}": one for one in asked}
            given = {
                name: "accept" if one.status == "accepted" else "refuse"
                for name, one in answers.items()
                if name in schema["properties"]
            }
            last = next((one for one in reversed(asked) if one.answered_by), asked[-1])
            given |= {"name": last.answered_by or "nobody", "reason": last.reason or last.status}
        client.resume_flow_run(flow_run_id, run_input=given)
    return True


def _suspendable() -> UUID | None:
    """The id of this flow run, if Prefect can suspend it."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.deployment_id is None or run.parent_task_run_id is not None:
        return None
    return run.id


def _pause_key(asked: Sequence[Decision]) -> str:
    return f"decision-{max(one.decision_id for one in asked)}"


def _keyset(asked: Sequence[Decision]) -> Keyset:
    # As Prefect names what belongs to a suspension.
    return keyset_from_base_key(f"suspended-{_pause_key(asked)}")
