"""Retries and timeouts of tasks."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows.failures.circuit import CircuitOpen
from flows.failures.diagnose import STRATEGIES, Strategy, diagnose
from flows.values.errors import RateLimited
from flows.values.settings import settings

_RETRIES = settings().load_attempts - 1


_DELAYS = exponential_backoff(backoff_factor=settings().retry_first_delay_seconds)


_JITTER = 0.5


_LOAD_TIMEOUT_SECONDS = 2 * 3600


async def may_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only failures whose strategy is to retry: a wrong password stays wrong, refused data stays refused.

    An API that requests a longer wait than a run allows, or whose circuit is open, is not retried before the next
    scheduled run.
    """
    try:
        await state.aresult()
    except Exception as problem:
        failure = diagnose(problem, "task")
        if isinstance(failure.error, RateLimited | CircuitOpen):
            return False
        return failure.error.retryable and STRATEGIES[failure.failure_class][0] is Strategy.RETRY
    return False
