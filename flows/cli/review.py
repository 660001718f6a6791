"""`medallion review`: what a branch changes in the warehouse, on a laptop and in CI."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.markdown import Markdown

from flows.cli.terminal import console, keep_private, problems
from flows.values.settings import PROJECT_ROOT


def review(
    name: Annotated[
        str | None, typer.Option("--name", help="Names the schemas: pr_<name>__…; the branch's name")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the Markdown here, too")] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="A folder with the manifest.json to compare with; the warehouse's own"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the schemas, to look into them")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Only drop the schemas that a killed review left")] = False,
) -> None:
    """Build what differs from the last whole build beside it, compare, report, and drop it again."""
    from flows.models import review as slim_ci
    from flows.models.review_report import review_markdown

    # A pipeline that is cancelled sends this: the schemas are dropped all the same.
    signal.signal(signal.SIGTERM, _leave)
    keep_private()
    chosen = name or _name_of_this_branch()
    if clean:
        dropped = asyncio.run(slim_ci.clean(chosen))
        console.print(f"dropped {', '.join(dropped)}" if dropped else "there was nothing to drop")
        return
    with console.status(f"reviewing {chosen}"):
        found = asyncio.run(slim_ci.review(chosen, state_folder=state, keep=keep))
    text = review_markdown(found)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text, encoding="utf-8")
    console.print(Markdown(text))
    if not found.ok:
        problems.print("it does not build, or a test fails")
        raise typer.Exit(1)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _name_of_this_branch() -> str:
    """The pull request's number where a pipeline tells it, else the branch's name."""
    if found := re.fullmatch(r"refs/pull/(\d+)/.*", os.environ.get("GITHUB_REF", "")):
        return found[1]
    done = subprocess.run(
        ["git", "branch", "--show-current"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    branch = done.stdout.strip()
    if not branch:
        raise typer.BadParameter("there is no branch to name the schemas after; give one", param_hint="--name")
    return branch
