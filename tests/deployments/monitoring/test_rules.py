"""Each rule of Prometheus fires for its cause, and is silent beside it."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.operations.metric_registry import METRICS
from tests.conftest import ROOT
from tests.docs.markdown import anchors_of

FOLDER = ROOT / "deployments/monitoring/prometheus"
FILES = ("rules.yml", "forward.yml")
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for name in FILES
    for group in yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: package prometheus of Debian"
)


@dataclass(frozen=True)
class Case:
    """Series by minute that make a rule fire by `at`, and others, as like as possible, that do not."""

    fires: dict[str, str]
    silent: dict[str, str]
    at: int = 10


IN = 'job="medallion", instance="a"'
TABLE = f'{IN}, source="shop", table="baskets"'
RUN = f'{IN}, pipeline="ingest", scope="shop"'
MODEL = f'{IN}, model="dim_stores"'
POOL = f'{IN}, pool="ecs"'
CASES = {
    "MedallionWatchDown": Case({f"up{{{IN}}}": "0x30"}, {f"up{{{IN}}}": "1 0 1x30"}),
    "MedallionWatchHangs": Case(
        {f"medallion_watch_round_timestamp_seconds{{{IN}}}": "0x30"},
        {f"medallion_watch_round_timestamp_seconds{{{IN}}}": "0+60x30"},
    ),
    "MedallionNotMeasured": Case(
        {f"medallion_warehouse_measured{{{IN}}}": "0x30", f"medallion_warehouse_up{{{IN}}}": "1x30"},
        {f"medallion_warehouse_measured{{{IN}}}": "0x30", f"medallion_warehouse_up{{{IN}}}": "0x30"},
        15,
    ),
    "MedallionSeriesOmitted": Case(
        {f'medallion_series_omitted{{{IN}, of="tables"}}': "3x90"},
        {f'medallion_series_omitted{{{IN}, of="tables"}}': "0x90"},
        70,
    ),
    "MedallionWarehouseDown": Case(
        {f"medallion_warehouse_up{{{IN}}}": "0x30"}, {f"medallion_warehouse_up{{{IN}}}": "1 0 1x30"}
    ),
    "MedallionPrefectDown": Case(
        {f"medallion_prefect_up{{{IN}}}": "0x30"}, {f"medallion_prefect_up{{{IN}}}": "1 0 1x30"}
    ),
    "MedallionNoWorker": Case(
        {f"medallion_work_pool_polled{{{POOL}}}": "0x30", f'medallion_pool_flow_runs{{{POOL}, state="due"}}': "2x30"},
        {
            f"medallion_work_pool_polled{{{POOL}}}": "0x30",
            f'medallion_pool_flow_runs{{{POOL}, state="due"}}': "0x30",
            f'medallion_pool_flow_runs{{{IN}, pool="other", state="due"}}': "2x30",
        },
    ),
    "MedallionNoNextRun": Case(
        {f'medallion_deployment_planned{{{IN}, deployment="transform"}}': "0x30"},
        {f'medallion_deployment_planned{{{IN}, deployment="transform"}}': "1x30"},
    ),
    "MedallionConnectionsUsedUp": Case(
        {f"medallion_warehouse_connections{{{IN}}}": "90x30", f"medallion_warehouse_connections_max{{{IN}}}": "100x30"},
        {f"medallion_warehouse_connections{{{IN}}}": "80x30", f"medallion_warehouse_connections_max{{{IN}}}": "100x30"},
    ),
    "MedallionSlotRetainsWal": Case(
        {f'medallion_slot_retained_bytes{{{IN}, slot="s"}}': "2e10x30"},
        {f'medallion_slot_retained_bytes{{{IN}, slot="s"}}': "1e10x30"},
        15,
    ),
    "MedallionLate": Case(
        {f'medallion_freshness_late{{{IN}, subject="shop.baskets", clock="load"}}': "1x30"},
        {f'medallion_freshness_late{{{IN}, subject="shop.baskets", clock="load"}}': "0x30"},
    ),
    "MedallionRunFailed": Case(
        {f'medallion_run_last_timestamp_seconds{{{RUN}, status="failed"}}': "1x30"},
        {
            f'medallion_run_last_timestamp_seconds{{{RUN}, status="failed"}}': "1 _x30",
            f'medallion_run_last_timestamp_seconds{{{RUN}, status="done"}}': "_ 1x30",
        },
    ),
    "MedallionModelFailed": Case(
        {f"medallion_model_last_success{{{MODEL}}}": "0x30"}, {f"medallion_model_last_success{{{MODEL}}}": "1x30"}
    ),
    "MedallionQueueLong": Case(
        {f"medallion_flow_run_oldest_due_seconds{{{POOL}}}": "0+120x30"},
        {f"medallion_flow_run_oldest_due_seconds{{{POOL}}}": "0+60x10 0x30"},
        14,
    ),
    "MedallionEndsDiffer": Case(
        {f"medallion_table_matches{{{TABLE}}}": "0x30"}, {f"medallion_table_matches{{{TABLE}}}": "0x10 1x20"}, 20
    ),
    "MedallionRowsRefused": Case(
        {
            f'medallion_load_last_rows{{{TABLE}, outcome="quarantined"}}': "6x30",
            f'medallion_load_last_rows{{{TABLE}, outcome="read"}}': "100x30",
        },
        {
            f'medallion_load_last_rows{{{TABLE}, outcome="quarantined"}}': "0x30",
            f'medallion_load_last_rows{{{TABLE}, outcome="read"}}': "0x30",
        },
    ),
    "MedallionCircuitOpen": Case(
        {f'medallion_circuit_open{{{IN}, source="web"}}': "1x60"},
        {f'medallion_circuit_open{{{IN}, source="web"}}': "1x20 0x40"},
        40,
    ),
    "MedallionLoadSlow": Case(
        {f"medallion_load_last_duration_seconds{{{TABLE}}}": "200x60 900x40"},
        {f"medallion_load_last_duration_seconds{{{TABLE}}}": "20x60 200x40"},
        95,
    ),
    "MedallionRunNeedsMemory": Case(
        {f"medallion_run_last_memory_bytes{{{RUN}}}": "1e9x60 2e9x40"},
        {f"medallion_run_last_memory_bytes{{{RUN}}}": "1e8x60 2e8x40"},
        95,
    ),
    "MedallionAlerts": Case(
        {f'medallion_alerts{{{IN}, severity="critical", status="firing"}}': "1x30"},
        {
            f'medallion_alerts{{{IN}, severity="critical", status="acknowledged"}}': "1x30",
            f'medallion_alerts{{{IN}, severity="warning", status="firing"}}': "1x30",
        },
    ),
}


def promtool(file: Path) -> str:
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def written(cases: dict[str, Case], file: Path) -> Path:
    """The cases in the form that promtool reads."""

    def test(name: str, series: dict[str, str], at: int, samples: list[dict[str, int]]) -> dict[str, Any]:
        return {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": one, "values": values} for one, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                    "eval_time": f"{at}m",
                    "exp_samples": samples,
                }
            ],
        }

    tests = [
        one
        for name, case in cases.items()
        for one in (
            test(name, case.fires, case.at, [{"value": 1}]),
            test(name, case.silent, case.at, []),
        )
    ]
    content = {"rule_files": [str(FOLDER / name) for name in FILES], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@needs_promtool
def test_each_rule_fires_for_its_cause_and_is_silent_beside_it(tmp_path: Path) -> None:
    assert set(CASES) == set(RULES)
    assert promtool(written(CASES, tmp_path / "tests.yml")).rstrip().endswith("SUCCESS")
    # The control: turned around, each case fails.
    turned = {name: Case(case.silent, case.fires, case.at) for name, case in CASES.items()}
    failed = set(re.findall(r'alertname=\\?"(\w+)', promtool(written(turned, tmp_path / "turned.yml"))))
    assert failed == set(CASES)


@needs_promtool
def test_prometheus_accepts_the_example_of_its_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", FOLDER / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_uses_metrics_that_exist_and_names_a_runbook_that_exists(name: str) -> None:
    rule = RULES[name]
    exported = {each.full_name for each in METRICS}
    assert set(re.findall(r"medallion_\w+", rule["expr"])) <= exported
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert not anchor or anchor in anchors_of(ROOT / page)
    assert rule.get("labels", {}).get("severity", "by series") in ("info", "warning", "error", "critical", "by series")
