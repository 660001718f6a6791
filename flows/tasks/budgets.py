"""The state of runs that stop at a budget: completed, by another name."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

#: Neither done nor failed: what was read is kept, and the next run goes on.
STOPPED_AT_BUDGET = "Stopped at budget"


def stopped_at_budget(data: Any) -> State[Any]:
    """The end of a run or task that stopped at a budget, with its result."""
    return Completed(name=STOPPED_AT_BUDGET, message="The next run goes on from there.", data=data)
