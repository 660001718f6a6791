"""`python -m deployments.register`: work pools and concurrency limits at the Prefect API in force, idempotent."""

import contextlib
import sys

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from deployments.environments import current
from deployments.limits import concurrency_limits
from deployments.work_pools import WORK_POOLS, WorkPool


def register() -> list[str]:
    """Create what is missing and correct what differs; one line for each change, none when there was nothing to do.

    Raises:
        ConfigurationError: the environment is not a declared one.
    """
    wanted = current().work_pools
    with get_client(sync_client=True) as client:
        lines = [_pool(client, pool) for pool in WORK_POOLS if pool.name in wanted]
        lines += [_limit(client, name, limit) for name, limit in concurrency_limits()]
    return [line for line in lines if line]


def _pool(client: SyncPrefectClient, pool: WorkPool) -> str | None:
    try:
        present = client.read_work_pool(pool.name)
    except ObjectNotFound:
        # Another command may register the same at this moment; then it is there, which is all that was wanted.
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(
                WorkPoolCreate(
                    name=pool.name,
                    type=pool.type,
                    description=pool.description,
                    concurrency_limit=pool.concurrency_limit,
                    base_job_template=_template(pool.type),
                )
            )
        return f"created  work pool {pool.name} ({pool.type})"
    if (present.description, present.concurrency_limit) == (pool.description, pool.concurrency_limit):
        return None
    client.update_work_pool(
        pool.name, WorkPoolUpdate(description=pool.description, concurrency_limit=pool.concurrency_limit)
    )
    return f"updated  work pool {pool.name}"


def _template(kind: str) -> dict[str, object]:
    """A process pool's job template; other types take theirs from the worker that first polls them."""
    if kind != "process":
        return {}
    from prefect.workers.process import ProcessWorker

    return ProcessWorker.get_default_base_job_template()


def _limit(client: SyncPrefectClient, name: str, limit: int) -> str | None:
    try:
        present = client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))
        return f"created  limit {name} = {limit}"
    if present.limit == limit:
        return None
    client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=limit))
    return f"updated  limit {name} = {limit}"


def main() -> None:
    """Register, and say what changed."""
    sys.stdout.write("\n".join(register() or ["nothing to change"]) + "\n")


if __name__ == "__main__":
    main()
