"""One command measured as a whole process: seconds on the clock, and the peak of its resident memory."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# With it, each process would compile all that it imports again, which is most of what a small load takes.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds, the largest resident memory of a process of it in MB (0: not measured), and its CPU seconds.

    `cpu_tool` are those of the processes that were run; `in_turns` adds those of the servers.
    """

    seconds: float
    peak_mb: float
    cpu_tool: float = 0.0
    cpu_source: float = 0.0
    cpu_warehouse: float = 0.0


@dataclass(frozen=True, slots=True)
class Median:
    """The medians of several runs. CPU seconds: of the tool's processes, the source's server and the warehouse's.

    `cpu_per_million`: of all three together, per million of the `rows` that were loaded.
    """

    case: str
    tool: str
    seconds: float
    peak_mb: float
    rows: int = 0
    cpu_tool: float = 0.0
    cpu_source: float = 0.0
    cpu_warehouse: float = 0.0
    cpu_per_million: float = 0.0
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
        env={**_ENVIRONMENT, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    watch = _PeakMemory(process.pid)
    watch.start()
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)  # also the CPU seconds of all that it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    watch.join()
    if process.returncode:
        raise RuntimeError(f"{command[0] if not isinstance(command, str) else command}: {said.decode()[-2000:]}")
    return Sample(seconds, 0.0 if isinstance(command, str) else watch.peak_mb, used.ru_utime + used.ru_stime)


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


def in_turns(
    contenders: Sequence[Contender],
    runs: int,
    cpu: Callable[[], tuple[float, float]],
    rows: int,
    check: Callable[[str], None] = lambda _: None,
) -> list[Median]:
    """Each contender prepared and run once, then each again, `runs` times; their medians.

    `cpu` gives the CPU seconds that source and warehouse have used so far, `rows` is how many each run loads.
    `check` is called with the tool after each run, and is not measured.
    """
    samples: list[list[Sample]] = [[] for _ in contenders]
    for _ in range(runs):
        for (case, tool, prepare, once), taken in zip(contenders, samples, strict=True):
            prepare()
            before = cpu()
            sample = once()
            source, warehouse = (now - then for now, then in zip(cpu(), before, strict=True))
            taken.append(replace(sample, cpu_source=source, cpu_warehouse=warehouse))
            print(f"  {case}, {tool}: {taken[-1]}", file=sys.stderr, flush=True)  # a run takes minutes
            check(tool)
    return [median(case, tool, taken, rows) for (case, tool, _, _), taken in zip(contenders, samples, strict=True)]


def median(case: str, tool: str, taken: Sequence[Sample], rows: int) -> Median:
    """The medians of several runs of one contender."""

    def of(value: Callable[[Sample], float]) -> float:
        return statistics.median(value(sample) for sample in taken)

    used = of(lambda sample: sample.cpu_tool + sample.cpu_source + sample.cpu_warehouse)
    return Median(
        case,
        tool,
        of(lambda sample: sample.seconds),
        of(lambda sample: sample.peak_mb),
        rows,
        of(lambda sample: sample.cpu_tool),
        of(lambda sample: sample.cpu_source),
        of(lambda sample: sample.cpu_warehouse),
        used / rows * 1e6 if rows else 0.0,
    )
