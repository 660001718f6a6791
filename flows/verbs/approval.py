"""What a person has to approve in this environment, and whether exactly that is approved."""

from __future__ import annotations

from collections.abc import Sequence

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


def approval_here() -> Approval | None:
    """What is declared for this environment, or None."""
    declared: Sequence[Approval] = approvals.APPROVALS
    return next((one for one in declared if one.environment == settings().environment), None)


def ask_of(source: Source, table: Loadable) -> Ask | None:
    """What loads of the table ask a person instead of being refused, or None."""
    return merged(table.on_refusal or source.on_refusal, approval_here())


async def require(work: Work, question: Question, what: str, origin: Origin) -> int | None:
    """Go on only if a person has accepted exactly this plan, or the environment needs no approval of such work.

    Returns the number of the decision: `decisions.use` is called once the work is done, so that a run that was stopped
    can be started again. Otherwise the plan is stored as a question.

    Raises:
        DecisionNeeded: nobody has answered yet, or what was accepted was another plan, or less.
        DataRefused: a person refused it.
    """
    approval = approval_here()
    if approval is None or work not in approval.work:
        return None
    error = DataRefused(
        what, where=origin.subject, fix=f"remove {work!r} from flows/sources/approvals.py if it needs no approval"
    )
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse, warehouse.transaction():
        found = (await decisions.answers(warehouse, origin.subject, [question.kind])).get(question.kind)
        if found is not None and question.is_within(found.plan):
            if found.accepted:
                return found.number
            await decisions.use(warehouse, [found.number], origin.run_id)
            problem: DataRefused = refused_by(error, found)
        else:
            problem = needed(error, question)
            number, is_new = await decisions.raise_question(warehouse, question, problem.what, origin, approval.ask)
            waits(problem, number, is_new=is_new)
    raise problem  # after the transaction, which has stored it
