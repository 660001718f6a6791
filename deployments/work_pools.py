"""Where flow runs may run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool: its name in prefect.yaml, its type in Prefect, and how many flow runs it takes at one time."""

    name: str
    type: str
    description: str
    concurrency_limit: int | None = None


WORK_POOLS = (
    # Two transforms or four ingests already fill a laptop; more would only take turns.
    WorkPool("local", type="process", description="Processes on this machine", concurrency_limit=4),
)
