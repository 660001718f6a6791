"""One selective build in a process of its own, as a transform does it, without Prefect and the gates.

`python -m benchmarks.selective_once URL FOLDER RUN [everything]` prints models selected, built and unchanged, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from flows.models.project import DBT_PROJECT, run_dbt
from flows.models.selective.build import SelectiveBuild, finished, selection_of
from flows.models.selective.cutoff import Cutoff, cutting_off
from flows.values.connection import DatabaseConnection


def build_once(url: str, target: Path, run_id: int, everything: str = "") -> dict[str, int]:
    """Build what is due. Raises RuntimeError if dbt fails."""
    warehouse = DatabaseConnection("warehouse", url)
    build = SelectiveBuild(run_id, DBT_PROJECT, warehouse, warehouse, everything)
    asyncio.run(build.look())
    project = build.stored_project()
    if project is None:
        if problem := run_dbt(["parse"], url=url, target=target).problem:
            raise RuntimeError(problem)
        project = build.parsed_project(target / "manifest.json")
    decision = asyncio.run(build.decide(project))
    asyncio.run(build.begin(decision))
    selected, total = decision.counts()
    if not decision.reasons:
        return {"selected": 0, "built": 0, "models": total}
    cutoff = None if decision.selection is None else Cutoff(decision, run_id, url)
    chosen = [] if decision.selection is None else selection_of(decision.selection)
    with cutting_off(cutoff):
        done = run_dbt(
            ["build", "--exclude-resource-type", "unit_test", "--threads", "4", *chosen], url=url, target=target
        )
    asyncio.run(build.end(decision, finished(target / "run_results.json"), cutoff))
    if not done.ok:
        failed = [f"{node.unique_id}: {node.message}" for node in done.nodes if not node.ok]
        raise RuntimeError(done.problem or "; ".join(failed))
    built, _ = decision.counts(cutoff.left if cutoff is not None else ())
    return {"selected": selected, "built": built, "models": total}


if __name__ == "__main__":
    print(json.dumps(build_once(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), " ".join(sys.argv[4:]))))
