"""The estimate: complete, within budget, and reacting to what is changed."""

import dataclasses
from pathlib import Path

import pytest

from infra.pulumi.costs import FREE_TYPES, Unpriced, estimate, total
from infra.pulumi.graph import Graph, Node, record, settings_of
from infra.pulumi.prices import HOURS, RDS, RDS_GP3_GB
from tests.infra.pulumi.conftest import GraphOf


def test_a_month_stays_below_the_budget_alarm(graph: Graph) -> None:
    """An alarm that sounds every month is heard by nobody; one at ten times the cost sounds too late."""
    monthly, budget = total(estimate(graph)), graph.settings["budget"]["monthly_usd"]
    assert budget / 2 < monthly < budget


def test_the_guide_tells_what_the_estimate_says(graph: Graph) -> None:
    guide = (Path(__file__).parents[3] / "docs/aws.md").read_text(encoding="utf-8")
    assert f"[{total(estimate(graph)):,.0f}](../infra/pulumi/graphs/{graph.stack}_cost.md)" in guide


def test_a_second_zone_costs_a_second_database(graph_of: GraphOf) -> None:
    config = settings_of("dev")
    config["medallion:platform"]["warehouse"]["multi_az"] = True
    more = total(estimate(record("dev", config))) - total(estimate(graph_of("dev")))
    assert more == pytest.approx(RDS["db.t4g.medium"] * HOURS + 50 * RDS_GP3_GB)


def test_a_new_kind_of_resource_must_be_priced(graph_of: GraphOf) -> None:
    graph = graph_of("dev")
    new = Node("aws:redshift/cluster:Cluster", "new", "", {}, (), protect=False)
    with pytest.raises(Unpriced, match="redshift"):
        estimate(dataclasses.replace(graph, nodes=(*graph.nodes, new)))


def test_a_size_without_a_price_is_refused() -> None:
    config = settings_of("dev")
    config["medallion:platform"]["warehouse"]["instance_class"] = "db.x2g.16xlarge"
    with pytest.raises(Unpriced, match=r"db\.x2g\.16xlarge"):
        estimate(record("dev", config))


def test_nothing_is_named_free_that_nobody_makes(graph_of: GraphOf) -> None:
    made = {node.type for node in graph_of("production").nodes}
    assert made >= FREE_TYPES
