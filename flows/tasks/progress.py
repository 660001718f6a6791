"""Progress of loads: to subscribers, and in the log of the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from flows.failures.diagnose import diagnose
from flows.observe import metrics
from flows.observe.progress import report
from flows.publish.session import LoadResult
from flows.values.result_words import in_words

# Interval of log lines about a long load.
_PROGRESS_SECONDS = 5.0


class Pace:
    """Progress of one load: each step to subscribers, a line in the run's log every few seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = self._logged = time.monotonic()
        self._log = get_run_logger()

    def __call__(self, what: str, volume: int) -> None:
        now = time.monotonic()
        if now - self._logged < _PROGRESS_SECONDS:
            return
        self._logged = now
        megabytes = volume / 1e6
        text = f"{what} {megabytes:,.0f} MB, {megabytes / (now - self._started):,.1f} MB/s"
        self._log.info("%s: %s", self._name, text)
        report(self._name, "moving", text)


@contextmanager
def told(name: str) -> Iterator[Pace]:
    """Publish the start of a load and, if it fails, its error."""
    report(name, "began")
    try:
        yield Pace(name)
    except Exception as problem:
        failure = diagnose(problem, name)
        report(name, "failed", str(failure.error))
        raise


def tell(result: LoadResult, meter: metrics.Meter) -> None:
    """Publish and log the result and the cost of the load."""
    counts = result.counts
    text = (
        f"{result.strategy}: {counts.rows_read:,} read, {counts.rows_inserted:,} inserted, "
        f"{counts.rows_updated:,} updated, {counts.rows_deleted:,} deleted, "
        f"{counts.rows_quarantined:,} quarantined, {result.seconds:.1f} s"
    )
    log = get_run_logger()
    if result.chunks > 1:
        log.info("%s.%s is %s: read in %d chunks", result.source, result.table, result.volume, result.chunks)
    # One line per load: each is stored at Prefect's server, and a source may have thousands of tables.
    log.info(
        "%s.%s %s; counts: %s; %s rows/s, %.1f MB, peak memory of the process %.0f MB, CPU time %.1f s",
        result.source,
        result.table,
        text,
        counts.reconciliation,
        f"{meter.rows_per_second:,.0f}",
        meter.bytes / 1e6,
        meter.peak_memory_bytes / 1e6,
        meter.cpu_seconds,
    )
    if result.stopped:
        log.warning("%s.%s: %s", result.source, result.table, result.stopped)
        report(f"{result.source}.{result.table}", "stopped", result.stopped)
        return
    if result.warning:
        log.warning("%s.%s: %s", result.source, result.table, result.warning)
    if (noticed := in_words(counts)) is not None:
        text = f"{text}; {noticed}"
    report(f"{result.source}.{result.table}", "done", text)
