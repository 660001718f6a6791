"""One command measured as a whole process: seconds on the clock, and the peak of its resident memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds, and the largest resident memory of a process of it in MB (0: not measured)."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Median:
    """The medians of several runs."""

    case: str
    tool: str
    seconds: float
    peak_mb: float
    ratio_to_limit: float = 0.0


def run(command: Sequence[str] | str, environment: Mapping[str, str] | None = None) -> Sample:
    """Run a command to its end. A string goes through a shell, and its memory is not measured.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        shell=isinstance(command, str),
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0] if not isinstance(command, str) else command}: {said.decode()[-2000:]}")
    return Sample(seconds, 0.0 if isinstance(command, str) else usage.ru_maxrss / 1024)


def medians(case: str, tool: str, prepare: Callable[[], None], once: Callable[[], Sample], runs: int) -> Median:
    """Prepare and run `runs` times; the medians."""
    samples = []
    for _ in range(runs):
        prepare()
        samples.append(once())
    return Median(
        case,
        tool,
        statistics.median(sample.seconds for sample in samples),
        statistics.median(sample.peak_mb for sample in samples),
    )
