"""What Pulumi would make: the pages are up to date, and the program runs as Pulumi runs it."""

import runpy
import sys
import sysconfig
from pathlib import Path

import pytest

from infra.pulumi.graph import HERE, STACKS, Graph, record, settings_of
from infra.pulumi.render import drifted, main
from tests.infra.pulumi.conftest import GraphOf


def test_the_pages_of_every_stack_are_what_the_program_makes(graph: Graph) -> None:
    """A change of the program is read on the pages, by the reviewer, before it is deployed."""
    assert drifted(graph) == [], "run `python -m infra.pulumi.render` and look at the difference"


def test_a_page_that_was_edited_by_hand_is_noticed(
    graph_of: GraphOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra.pulumi import render

    monkeypatch.setattr(render, "PAGES", tmp_path)
    written = dict(render.pages(graph_of("dev")))
    for path, text in written.items():
        path.write_text(text.replace("db.t4g.medium", "db.t4g.large"))
    assert sorted(path.name for path in drifted(graph_of("dev"))) == ["dev.md", "dev_cost.md"]


def test_the_command_says_what_it_checked_and_what_it_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "staging"]) == 0
    assert "staging: " in capsys.readouterr().out
    assert main(["--check", "nowhere"]) == 2
    assert "Pulumi.nowhere.yaml" in capsys.readouterr().err


def test_recording_twice_gives_the_same_graph(graph_of: GraphOf) -> None:
    """Pages would drift by themselves if names or order depended on anything but the program."""
    again = record("dev")
    assert again.nodes == graph_of("dev").nodes
    assert again.outputs == graph_of("dev").outputs


def test_the_program_runs_the_way_pulumi_runs_it(graph_of: GraphOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulumi runs the folder as a program: its files become top-level modules, and come before all others."""
    monkeypatch.chdir(HERE)
    graph = record("dev", program=lambda: runpy.run_path(str(HERE), run_name="__main__"))
    assert graph.nodes == graph_of("dev").nodes


def test_no_file_of_the_program_hides_a_module_of_somebody_else() -> None:
    """`secrets.py` or `kubernetes.py` here would be imported instead of the module that others mean by that name."""
    installed = {path.name.removesuffix(".py") for path in Path(sysconfig.get_path("purelib")).iterdir()}
    ours = {path.stem for path in HERE.glob("*.py")} - {"__init__", "__main__"}
    assert ours & (set(sys.stdlib_module_names) | installed) == set()


def test_what_waits_is_declared_to_wait(graph: Graph) -> None:
    """Without these Pulumi would start services before what they need, and the first deployment would fail."""
    worker = graph.one("aws:ecs/service:Service", f"medallion-{graph.stack}-worker")
    assert f"Service medallion-{graph.stack}-prefect-server" in worker.depends_on
    server = graph.one("aws:ecs/service:Service", f"medallion-{graph.stack}-prefect-server")
    assert f"Listener medallion-{graph.stack}-prefect" in server.depends_on
    policy = graph.one("aws:s3/bucketPolicy:BucketPolicy", f"medallion-{graph.stack}-lake")
    assert f"BucketPublicAccessBlock medallion-{graph.stack}-lake" in policy.depends_on


def test_every_declared_stack_has_its_settings() -> None:
    assert sorted(path.name for path in HERE.glob("Pulumi.*.yaml")) == sorted(f"Pulumi.{s}.yaml" for s in STACKS)


def test_kubernetes_comes_when_it_is_asked_for(graph_of: GraphOf) -> None:
    from infra.pulumi.costs import USAGE, estimate, total
    from infra.pulumi.policies import violations

    config = settings_of("dev")
    config["medallion:platform"]["kubernetes"] = {"nodes": 2}
    asked = record("dev", config)
    assert graph_of("dev").of("aws:eks/cluster:Cluster") == []
    [cluster] = asked.of("aws:eks/cluster:Cluster")
    assert cluster.inputs["vpcConfig"]["endpointPublicAccess"] is False
    assert violations(asked) == []
    assert total(estimate(asked, USAGE["dev"])) > total(estimate(graph_of("dev"))) + 200
