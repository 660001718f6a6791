"""One command measured as a whole process: seconds on the clock, and the peak of its resident memory."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    watch = _PeakMemory(process.pid)
    watch.start()
    said = process.stdout.read()
    process.wait()
    seconds = time.perf_counter() - started
    watch.join()
    if process.returncode:
        raise RuntimeError(f"{command[0] if not isinstance(command, str) else command}: {said.decode()[-2000:]}")
    return Sample(seconds, 0.0 if isinstance(command, str) else watch.peak_mb)


class _PeakMemory(threading.Thread):
    """Reads the most memory that a process has held, until it ends.

    What wait() tells of it counts the memory of whoever started the process, up to the moment of its exec.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self.peak_mb = 0.0

    def run(self) -> None:
        """Until the process is gone."""
        while (peak := self._read()) is not None:
            self.peak_mb = peak
            time.sleep(0.02)

    def _read(self) -> float | None:
        try:
            told = self._status.read_text()
        except OSError:
            return None
        found = re.search(r"VmHWM:\s+(\d+) kB", told)
        return int(found[1]) / 1024 if found else None


Contender = tuple[str, str, Callable[[], None], Callable[[], Sample]]
"""A case, a tool, what comes before each run, and the run."""


def in_turns(contenders: Sequence[Contender], runs: int) -> list[Median]:
    """Each contender prepared and run once, then each again, `runs` times; their medians."""
    samples: list[list[Sample]] = [[] for _ in contenders]
    for _ in range(runs):
        for (_, _, prepare, once), taken in zip(contenders, samples, strict=True):
            prepare()
            taken.append(once())
    return [
        Median(
            case,
            tool,
            statistics.median(sample.seconds for sample in taken),
            statistics.median(sample.peak_mb for sample in taken),
        )
        for (case, tool, _, _), taken in zip(contenders, samples, strict=True)
    ]
