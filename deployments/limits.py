"""Global concurrency limits, over all runs and all workers."""

from collections.abc import Iterator

from flows.sources import SOURCES
from flows.values.settings import settings


def concurrency_limits() -> Iterator[tuple[str, int]]:
    """Global concurrency limits by name: `warehouse`, and `source-<name>` for each declared source."""
    yield "warehouse", settings().warehouse_parallel
    for source in SOURCES:
        yield f"source-{source.name}", source.max_parallel
