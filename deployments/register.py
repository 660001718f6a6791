"""`python -m deployments.register`: work pools, queues and limits at the Prefect API in force, without deployments.

What `medallion up` and `medallion register` do. `medallion deploy` does all of it, and shows a plan first.
"""

import sys

from deployments.declared import Target, limits, pool_and_queues
from deployments.environments import current
from deployments.plan import plan
from deployments.resource import Resource
from deployments.server import connected
from deployments.work_pools import work_pool
from flows.values.errors import MedallionError
from flows.values.settings import PROJECT_ROOT


def register() -> list[str]:
    """Create what is missing and correct what differs; one line for each change, none when there was nothing to do.

    The pool is `local` where the environment uses it; elsewhere `medallion deploy` makes the one that was chosen.

    Raises:
        ConfigurationError: the environment is not a declared one.
    """
    environment = current()
    wanted = [*limits(environment)]
    if "local" in environment.work_pools:
        wanted = [*pool_and_queues(Target(environment, work_pool("local"), "", PROJECT_ROOT)), *wanted]
    lines = []
    with connected({}) as server:
        held = server.held({resource.key for resource in wanted}, {})
        for change in plan(wanted, held, last={}, owned=frozenset()):
            if change.writes:
                server.write(change.resource)
                lines.append(f"{change.action + 'd':<8} {_told(change.resource)}")
    return lines


def _told(resource: Resource) -> str:
    detail = {"limit": f" = {resource.fields.get('limit')}", "work pool": f" ({resource.fields.get('type')})"}
    return f"{resource.kind} {resource.name}{detail.get(resource.kind, '')}"


def main() -> None:
    """Register, and say what changed."""
    try:
        done = register()
    except MedallionError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write("\n".join(done or ["nothing to change"]) + "\n")


if __name__ == "__main__":
    main()
