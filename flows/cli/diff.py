"""`medallion diff`: what a branch changes in the warehouse, on a laptop and in CI."""

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


def diff(
    name: Annotated[
        str | None, typer.Option("--name", help="Prefix of the schemas: pr_<name>__…; default: the branch's name")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write the report to this Markdown file")] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="A folder with the manifest.json to compare with; default: that of the warehouse"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the schemas for inspection")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Only drop the schemas that a killed run left behind")] = False,
) -> None:
    """Build the models that differ from the last full build in shadow schemas, compare, report, and drop them."""
    from flows.models import diff as builds
    from flows.models.diff_report import review_markdown

    # CI sends this when a job is cancelled: the schemas are dropped nevertheless.
    signal.signal(signal.SIGTERM, _leave)
    keep_private()
    chosen = name or _name_of_this_branch()
    if clean:
        dropped = asyncio.run(builds.clean(chosen))
        console.print(f"dropped {', '.join(dropped)}" if dropped else "nothing to drop")
        return
    with console.status(f"comparing {chosen}"):
        found = asyncio.run(builds.diff(chosen, state_folder=state, keep=keep))
    text = review_markdown(found)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text, encoding="utf-8")
    console.print(Markdown(text))
    if not found.ok:
        problems.print("the build or a test failed")
        raise typer.Exit(1)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _name_of_this_branch() -> str:
    """The pull request's number if CI sets it, else the branch's name."""
    if found := re.fullmatch(r"refs/pull/(\d+)/.*", os.environ.get("GITHUB_REF", "")):
        return found[1]
    done = subprocess.run(
        ["git", "branch", "--show-current"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    branch = done.stdout.strip()
    if not branch:
        raise typer.BadParameter("there is no git branch to name the schemas after; pass --name", param_hint="--name")
    return branch
