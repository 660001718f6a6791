"""Work pools and queues."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool: its name, its type in Prefect, where its runs find the code, how many of them run at one time.

    `code="clone"`: the folder that was deployed from, on the worker's machine. `code="image"`: /app of the image.
    `needs_image`: each run names its image; elsewhere the infrastructure does, as an ECS task definition.
    """

    name: str
    type: str
    description: str
    concurrency_limit: int | None = None
    code: Literal["clone", "image"] = "image"
    needs_image: bool = False


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A queue of every pool. Priority 1 is taken first; no two queues share a priority."""

    name: str
    priority: int
    description: str


WORK_POOLS = (
    # Two transforms or four ingests already fill a laptop; more would only take turns.
    WorkPool("local", type="process", description="Processes on this machine", concurrency_limit=4, code="clone"),
    WorkPool(
        "docker",
        type="docker",
        description="Containers of a Docker engine",
        concurrency_limit=8,
        needs_image=True,
    ),
    # Fargate's own quota for a new account is some 30 tasks.
    WorkPool("ecs", type="ecs", description="ECS tasks with the current task definition", concurrency_limit=20),
    WorkPool("kubernetes", type="kubernetes", description="Kubernetes jobs", concurrency_limit=20, needs_image=True),
)

WORK_QUEUES = (
    WorkQueue("urgent", priority=1, description="Manual runs: pipeline, backfill"),
    WorkQueue("default", priority=2, description="Scheduled and triggered runs"),
)

#: Where the image keeps the project.
IMAGE_FOLDER = "/app"


def work_pool(name: str) -> WorkPool:
    """The declared pool of that name. Raises KeyError."""
    return {pool.name: pool for pool in WORK_POOLS}[name]
