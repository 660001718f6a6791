"""What a person has to approve in this environment, and whether exactly that is approved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.ask import Approval, Ask, Work, merged
from flows.declare.source import Loadable, Source
from flows.sources import approvals
from flows.state import decisions
from flows.state.decisions import Origin
from flows.values.asking import needed, refused_by, waits
from flows.values.errors import DataRefused
from flows.values.question import Question
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


def approval_here() -> Approval | None:
    """What is declared for this environment, or None."""
    return next((one for one in approvals.APPROVALS if one.environment == settings().environment), None)


def ask_of(source: Source, table: Loadable) -> Ask | None:
    """What loads of the table ask a person instead of being refused, or None."""
    return merged(table.on_refusal or source.on_refusal, approval_here())


async def require(work: Work, question: Question, what: str, origin: Origin) -> None:
    """Go on only if a person has accepted exactly this plan, or the environment needs no approval of such work.

    The acceptance is used up by this. Otherwise the plan is stored as a question.

    Raises:
        DecisionNeeded: nobody has answered yet, or what was accepted was another plan, or less.
        DataRefused: a person refused it.
    """
    approval = approval_here()
    if approval is None or work not in approval.work:
        return
    error = DataRefused(
        what, where=origin.subject, fix=f"if it is not wanted, refuse it; {work} needs an approval here"
    )
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse, warehouse.transaction():
        problem = await _settle(warehouse, question, error, origin, approval.ask)
    if problem is not None:  # raised after the transaction, which has stored it
        raise problem


async def _settle(
    warehouse: Connection[Record], question: Question, error: DataRefused, origin: Origin, ask: Ask
) -> DataRefused | None:
    found = (await decisions.answers(warehouse, origin.subject, [question.kind])).get(question.kind)
    if found is not None and question.is_within(found.plan):
        await decisions.use(warehouse, [found.number], origin.run_id, origin.batch_id)
        return None if found.accepted else refused_by(error, found)
    asked = needed(error, question)
    number, is_new = await decisions.raise_question(warehouse, question, asked.what, origin, ask)
    waits(asked, number, is_new=is_new)
    return asked
