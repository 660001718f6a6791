"""The state of runs that stop at a budget: completed, by another name."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.declare.budget import STOPPED_AT_BUDGET


def stopped_at_budget(data: Any) -> State[Any]:
    """The end of a run or task that stopped at a budget, with its result: neither done nor failed."""
    return Completed(name=STOPPED_AT_BUDGET, message="The next run goes on from there.", data=data)
