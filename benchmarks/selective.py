"""Selective builds beside a plain `dbt build`: everything, a day with few changes, nothing. In seconds of a core, too.

A part of `python -m benchmarks.transform`; both sides are one process with its imports, and have parsed the project.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cpu import cpu_of_tree
from flows.values.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from benchmarks.transform import Platform

_EVERYTHING = "everything"
_FEW = "a day's lines changed"
_NOTHING = "nothing changed"
CASES = (_EVERYTHING, _FEW, _NOTHING)
_CHANGE = """
update raw_shop.basket_items as line
set quantity = quantity + 1, updated_at = now(), _extracted_at = now(), _batch_id = %s
from raw_shop.baskets as basket
where line.basket_id = basket.basket_id and basket.sold_at >= '2017-12-31'
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One build: seconds on the clock, seconds of a core in dbt's process and in PostgreSQL, and models built."""

    case: str
    how: str
    seconds: float
    cpu_client: float
    cpu_server: float
    models: int


def measure_selective(measured: Platform, say: Callable[[str], None]) -> list[Side]:
    """Each case plain, then each selectively: a plain build replaces the tables that a selective one would leave."""
    sides = []
    for how in ("plain", "selective"):
        if how == "selective":
            _selectively(measured, 1, _EVERYTHING)  # parses, and records what was built
        for number, case in enumerate(CASES, 2):
            if case == _FEW:
                with measured.connect() as connection:
                    connection.execute(_CHANGE, [number + (how == "selective")])
            sides.append(_timed(measured, case, how, number))
            one = sides[-1]
            say(
                f"{case}, {how}: {one.seconds:.1f} s, {one.cpu_client:.1f} s of a core in dbt "
                f"and {one.cpu_server:.1f} s in PostgreSQL, {one.models} models"
            )
    return sides


def _timed(measured: Platform, case: str, how: str, number: int) -> Side:
    client, server, began = _used(), cpu_of_tree(measured.pid), time.perf_counter()
    if how == "plain":
        models = sum(node.kind in {"model", "seed", "snapshot"} for node in measured.build(case).nodes)
    else:
        models = _selectively(measured, number, _EVERYTHING if case == _EVERYTHING else "")["built"]
    seconds = time.perf_counter() - began
    return Side(
        case,
        how,
        round(seconds, 1),
        round(_used() - client, 1),
        round(cpu_of_tree(measured.pid) - server, 1),
        models,
    )


def _selectively(measured: Platform, number: int, everything: str) -> dict[str, Any]:
    folder = measured.folder / "selective"
    command = [sys.executable, "-m", "benchmarks.selective_once", measured.url, str(folder), str(number), everything]
    done = subprocess.run(command, cwd=Path(PROJECT_ROOT), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the selective build ended with {done.returncode}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _used() -> float:
    """Seconds of a core that processes which have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def selective_page(sides: list[Side]) -> list[str]:
    """The section of the page of results."""
    return [
        "",
        "## Selective beside plain",
        "",
        "The same models and tests, built by `dbt build` and by what a transform does without Prefect and its gates. "
        "Seconds of a core are those of dbt's process and of PostgreSQL.",
        "",
        "| case | build | seconds | core, dbt | core, PostgreSQL | models built |",
        "|---|---|---:|---:|---:|---:|",
        *(
            f"| {one.case} | {one.how} | {one.seconds:.1f} | {one.cpu_client:.1f} | {one.cpu_server:.1f} "
            f"| {one.models} |"
            for one in sides
        ),
    ]
