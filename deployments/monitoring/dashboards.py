"""`python -m deployments.monitoring.dashboards [--check]`: the Grafana dashboards, from board_*.py.

Exit codes: 0 done; 2 a file differs (`--check`). Needs the development packages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from deployments.monitoring.board_operations import OPERATIONS
from deployments.monitoring.board_runs import RUNS
from deployments.monitoring.board_tables import TABLES
from deployments.monitoring.panels import Board, Shown

BOARDS = (OPERATIONS, TABLES, RUNS)
FOLDER = Path(__file__).with_name("grafana")
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
_GOOD, _BAD = "blue", "orange"  # told apart by those who see no red or green


def rendered() -> dict[Path, str]:
    """Each file with its text."""
    return {FOLDER / board.file: JSONEncoder(sort_keys=True, indent=2).encode(_board(board)) + "\n" for board in BOARDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files that differ, or only name them."""
    parser = argparse.ArgumentParser(prog="python -m deployments.monitoring.dashboards")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 2 if a file differs")
    check = parser.parse_args(arguments).check
    differing = [(path, text) for path, text in rendered().items() if not path.is_file() or path.read_text() != text]
    for path, text in differing:
        sys.stdout.write(f"{'differs' if check else 'written'}: {path.name}\n")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 2 if differing and check else 0


def _board(board: Board) -> models.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"medallion-{board.file.removesuffix('.json')}")
        .description(board.description)
        .tags(["medallion"])
        .refresh("1m")
        .time("now-24h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    known: list[str] = []
    for name, metric in board.variables:
        under = ", ".join(f'{other}=~"${other}"' for other in known)
        made.with_variable(
            dashboard.QueryVariable(name)
            .datasource(_SOURCE)
            .query(f"label_values({metric}{{{under}}}, {name})")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )
        known.append(name)
    for title, panels in board.rows:
        made.with_row(dashboard.Row(title))
        for shown in panels:
            made.with_panel(_panel(shown))
    return made.build()


def _panel(shown: Shown) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel
    if shown.kind == "stat":
        made = stat.Panel().span(4).height(4).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        made = timeseries.Panel().span(12).height(8)
        if shown.bad_below != 0:  # which is about values below zero
            made.min(0)
    made.title(shown.title).description(shown.question).datasource(_SOURCE).unit(shown.unit)
    made.thresholds(_thresholds(shown))
    for index, (query, legend) in enumerate(shown.queries):
        made.with_target(
            prometheus.Dataquery().expr(query).legend_format(legend).ref_id("ABCD"[index]).datasource(_SOURCE)
        )
    return made


def _thresholds(shown: Shown) -> dashboard.ThresholdsConfig:
    first, steps = _GOOD, []
    if shown.bad_below is not None:
        first, steps = _BAD, [models.Threshold(value=shown.bad_below, color=_GOOD)]
    elif shown.bad_from is not None:
        steps = [models.Threshold(value=shown.bad_from, color=_BAD)]
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=None, color=first), *steps])
    )


if __name__ == "__main__":
    sys.exit(main())
