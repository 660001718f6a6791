"""Seconds of a core that processes have used: on a machine that does other things, they say more than the clock."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_of_tree(pid: int) -> float:
    """Seconds of a core that the process and all below it have used.

    Those that have ended and were waited for are included: a postmaster waits for its sessions.
    """
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(entry.parent.name)
        parents.setdefault(int(fields[1]), []).append(number)
        used[number] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [pid]
    while waiting:
        number = waiting.pop()
        total += used.get(number, 0.0)
        waiting += parents.get(number, [])
    return total
