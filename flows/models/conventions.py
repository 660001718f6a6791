"""The conventions of the dbt project: dbt-bouncer's checks, our own, and the coverage of documentation and tests."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.models.coverage import Gap, LayerCoverage, coverage, gaps
from flows.models.manifest import Manifest
from flows.models.project import DBT_PROJECT, run_dbt
from flows.models.selective import project_state
from flows.models.selective.nodes import CLOCK_META
from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT, settings

CHECKS = PROJECT_ROOT / "dbt-bouncer.yml"
# Parsing opens no connection, but the profile needs a URL.
_NOWHERE = "postgresql://nobody:unused@127.0.0.1/warehouse"


@dataclass(frozen=True)
class Verdict:
    """`problem`: dbt cannot parse the project. `gaps`: broken conventions. `layers`: the coverage."""

    problem: str = ""
    gaps: tuple[Gap, ...] = ()
    layers: tuple[LayerCoverage, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all conventions are followed."""
        return not (self.problem or self.gaps)


def check_conventions(project: Path = DBT_PROJECT) -> Verdict:
    """Parse the project, without a database, and check the conventions.

    Raises:
        ConfigurationError: dbt-bouncer is not installed.
    """
    target = settings().home / "dbt" / "check"
    parsed = run_dbt(["parse"], url=_NOWHERE, target=target, project=project)
    if parsed.problem:
        return Verdict(problem=parsed.problem)
    manifest = Manifest.read((target / "manifest.json").read_bytes())
    found = [*gaps(manifest), *_undeclared(manifest, project), *_bounce(target)]
    found.sort(key=lambda gap: (gap.model, gap.what))
    return Verdict("", tuple(found), tuple(coverage(manifest)))


def _undeclared(manifest: Manifest, project: Path) -> list[Gap]:
    """Nodes that are built each time, because they do not declare what their result depends on."""
    nodes = project_state.parsed(manifest.content, project, _NOWHERE).nodes.values()
    found = [Gap(node.name, f"{node.unsure}; it is built each time") for node in nodes if node.unsure]
    return found + [
        Gap(node.name, f"uses the clock, and its meta does not say how it {CLOCK_META}; it is built each time")
        for node in nodes
        if node.clock == "always"
        and CLOCK_META not in ((manifest.content["nodes"][node.unique_id].get("config") or {}).get("meta") or {})
    ]


def _bounce(artifacts: Path) -> list[Gap]:
    program = Path(sys.executable).with_name("dbt-bouncer")
    if not program.exists():
        raise ConfigurationError(
            "dbt-bouncer is not installed",
            where=str(program.parent),
            fix="run `make install`, which installs the development tools",
        )
    config, results = artifacts / CHECKS.name, artifacts / "conventions.json"
    checks = CHECKS.read_text(encoding="utf-8").replace("dbt_artifacts_dir: .", f"dbt_artifacts_dir: {artifacts}")
    config.write_text(checks, encoding="utf-8")
    results.unlink(missing_ok=True)
    written = ["--output-format", "json", "--output-file", str(results), "--output-only-failures"]
    done = subprocess.run(
        [str(program), "run", "--config-file", str(config), *written], capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 1} or not results.exists():
        raise ConfigurationError(
            f"dbt-bouncer ended with {done.returncode}",
            where=CHECKS.name,
            fix=f"run `dbt-bouncer run --config-file {config}` to see what is wrong with its configuration",
        )
    return [
        Gap(
            entry["unique_id"].split(".", 2)[-1],
            f"{entry['failure_message']} ({entry['check_run_id'].partition(':')[0]})",
        )
        for entry in json.loads(results.read_text(encoding="utf-8"))
    ]
