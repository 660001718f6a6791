"""The cost of a step: time, rows, bytes, memory, CPU."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
# Linux counts ru_maxrss in KiB, macOS in bytes.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(slots=True)
class Meter:
    """Filled while a step runs; times are available once it has ended.

    `seconds` is wall-clock time, `cpu_seconds` of this process and its finished children, `peak_memory_bytes` the peak
    resident size of this process so far (the kernel keeps one figure for the process's lifetime, so of two steps in
    one process the later never shows less).
    """

    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def rows_per_second(self) -> float:
        """0 for a step that took no measurable time."""
        return self.rows / self.seconds if self.seconds else 0.0

    def as_fields(self) -> dict[str, float | int]:
        """The figures for a log line or a row of `ops`."""
        return {
            "rows": self.rows,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
        }


@contextmanager
def measure() -> Iterator[Meter]:
    """Measure a step, also one that fails.

    with measure() as meter:
        meter.rows = publish(...)
    logger.info("published", extra=meter.as_fields())
    """
    meter = Meter()
    started, cpu = time.perf_counter(), cpu_seconds()
    try:
        yield meter
    finally:
        meter.seconds = time.perf_counter() - started
        meter.cpu_seconds = cpu_seconds() - cpu
        meter.peak_memory_bytes = peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The peak resident size of this process so far.

    Linux keeps it for the program that runs now in /proc; what it tells by getrusage counts the memory of whoever
    started us, up to the moment of our exec.
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def cpu_seconds() -> float:
    """CPU time of this process and its finished children so far."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
