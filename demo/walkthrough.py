"""`medallion demo`: two days in the life of a platform, on real data, with the time each step took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from demo import findings
from demo.commerce import set_day
from demo.day_two import apply_day_two
from demo.shop import load_day_one
from flows.access.addresses import DEMO_SOURCES
from flows.observe import look
from flows.values.errors import MedallionError
from infra.local import stack as embedded
from infra.local import where
from infra.local.home import Home

if TYPE_CHECKING:
    from infra.local.stack import Stack


#: The demo's own sources, whatever else is declared.
RUN = ("run", *DEMO_SOURCES)


class DemoFailed(MedallionError):
    """A step of the demo failed; the step has printed why."""


class _Clock:
    """Times of the steps, for the table at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.steps: list[tuple[str, float]] = []
        self._started = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._console.print(f"\n[bold]{name}[/]")
        started = time.monotonic()
        yield
        self.steps.append((name, time.monotonic() - started))

    @property
    def total(self) -> float:
        return time.monotonic() - self._started


def tell(console: Console, agrees: Callable[[str], bool]) -> None:
    """Run the demo from scratch. If this would delete what was loaded of other sources, a person must have agreed.

    Raises:
        MedallionError: a step failed, or nobody agreed.
    """
    clock = _Clock(console)
    home = Home.find()
    with clock.step("Stack: PostgreSQL 18, Prefect, the commerce API"):
        set_day(home.commerce, 1)
        running = embedded.up(wait=False, with_commerce=True, on_step=lambda step: console.print(f"  {step}"))
        _begin_from_scratch(running.urls["warehouse_admin"], agrees)
    with clock.step("Sources: a year of real groceries, while Prefect starts"):
        _fill(running, console)
        running.wait_for_prefect()
    with clock.step("Day one: sources → raw → silver → gold"), _registering():
        _pipeline()
    with clock.step("Day two: changes at the sources"):
        changes = apply_day_two(running.urls["shop_app"], running.urls["shop_admin"])
        set_day(home.commerce, 2)
        table = look.grid("Day two", ["table", "what", "rows", "which"], ["rows"])
        for change in changes:
            table.add_row(change.table, change.what, f"{change.rows:,}", change.detail)
        console.print(table)
    with clock.step("Day two: changes → raw → silver → gold"):
        _pipeline()
    with clock.step("Results"):
        agreed = findings.show(running, console)
    _show_times(clock, console)
    console.print(where.addresses(running))
    console.print("\nRun [bold]medallion run[/] again: nothing changes. [bold]make down[/] stops the stack.")
    if not agreed:
        raise DemoFailed("the totals of source and gold differ", where="demo", fix="read the table of totals above")


def _begin_from_scratch(admin_url: str, agrees: Callable[[str], bool]) -> None:
    others = findings.other_sources(admin_url)
    if others and not agrees(
        f"This warehouse has loads of {', '.join(others)}. The demo deletes all silver and gold, and the cursors and "
        "history of every source"
    ):
        raise DemoFailed(
            f"nothing was changed: the warehouse has loads of {', '.join(others)}: the demo starts from scratch",
            where="the embedded warehouse",
            fix="run the demo in another clone, with another MEDALLION_HOME, or with --yes",
        )
    findings.forget(admin_url)


def _fill(running: Stack, console: Console) -> None:
    rows = load_day_one(running.urls["shop_app"])
    console.print("  shop: " + ", ".join(f"{count:,} {table}" for table, count in rows.items()), highlight=False)


@contextmanager
def _registering() -> Iterator[None]:
    """Register blocks, work pool and limits in parallel with the first run, which does not wait for them."""
    command = [sys.executable, "-m", "flows.cli", "register"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_embedded_only()
    ) as registering:
        yield
        said, _ = registering.communicate()
    if registering.returncode:
        raise DemoFailed(
            f"registration failed: {said.strip()[-500:]}",
            where="medallion register",
            fix="run `medallion register` to see why",
        )


def _pipeline() -> None:
    """`medallion run` of the demo's sources, in a separate process: dbt needs one per run, like a scheduled
    run. Your own sources are not loaded."""
    ended = subprocess.run([sys.executable, "-m", "flows.cli", *RUN], check=False, env=_embedded_only())
    if ended.returncode:
        error = DemoFailed("the pipeline failed", where="medallion run", fix="read its output above, then run again")
        error.exit_code = ended.returncode
        raise error


def _embedded_only() -> dict[str, str]:
    """The environment without URLs of other servers: the demo must never write to yours."""
    yours = ("MEDALLION_WAREHOUSE_", "MEDALLION_SOURCE_", "PREFECT_API_", "PREFECT_PROFILE")
    return {name: value for name, value in os.environ.items() if not name.startswith(yours)}


def _show_times(clock: _Clock, console: Console) -> None:
    table = look.grid("Time", ["step", "s"], ["s"])
    for name, seconds in clock.steps:
        table.add_row(name, f"{seconds:.1f}")
    table.add_section()
    table.add_row("all", f"{clock.total:.1f}", style="bold")
    console.print(table)
