"""The watch on ECS: one, which needs no server to start, reads what it must, and is missed if it is gone."""

import json

import pulumi
import pytest

from infra.pulumi import facts
from infra.pulumi.graph import Graph, record, settings_of
from infra.pulumi.policies import violations
from infra.pulumi.stack import parse
from tests.infra.pulumi.conftest import GraphOf


def test_one_watch_runs_and_waits_for_no_server_because_that_is_what_it_reports(graph: Graph) -> None:
    service = graph.one("aws:ecs/service:Service", f"medallion-{graph.stack}-watch")
    assert service.inputs["desiredCount"] == 1
    assert [each for each in service.depends_on if "prefect-server" in each] == []
    node = graph.one("aws:ecs/taskDefinition:TaskDefinition", f"medallion-{graph.stack}-watch")
    [container] = json.loads(node.inputs["containerDefinitions"])
    assert container["command"] == ["medallion", "watch"]
    assert container["healthCheck"]["command"] == ["CMD-SHELL", "python -m deployments.health"]


def test_it_reads_the_loaders_secret_and_those_of_sources_and_no_other(graph: Graph) -> None:
    policy = graph.one("aws:iam/rolePolicy:RolePolicy", f"medallion-{graph.stack}-watch")
    read = {
        secret.rpartition("/")[2]
        for statement in facts.all_statements(policy)
        if "secretsmanager:GetSecretValue" in statement["Action"]
        for secret in facts.as_list(statement["Resource"])
    }
    assert "warehouse-loader" in read
    assert [name for name in read if not name.startswith("source-")] == ["warehouse-loader"]


def test_an_alarm_outside_of_the_platform_tells_that_it_is_gone(graph: Graph) -> None:
    alarm = graph.one("aws:cloudwatch/metricAlarm:MetricAlarm", f"medallion-{graph.stack}-watch-gone").inputs
    assert alarm["treatMissingData"] == "breaching"
    assert alarm["dimensions"]["ServiceName"] == f"medallion-{graph.stack}-watch"


def test_addresses_of_channels_are_put_in_from_a_secret_that_is_asked_for(graph_of: GraphOf) -> None:
    """Without them it asks the block at the server, which is of no use when the server is what is down."""
    config = settings_of("dev")
    config["medallion:platform"]["watch"] = {"secret_variables": ["MEDALLION_ALERT_WEBHOOK_URL"]}
    asked = record("dev", config)
    node = asked.one("aws:ecs/taskDefinition:TaskDefinition", "medallion-dev-watch")
    [container] = json.loads(node.inputs["containerDefinitions"])
    [injected] = [each["valueFrom"] for each in container["secrets"] if each["name"] == "MEDALLION_ALERT_WEBHOOK_URL"]
    assert injected.endswith("medallion-dev/alerts:MEDALLION_ALERT_WEBHOOK_URL::")
    assert violations(asked) == []
    secrets = {node.name for node in graph_of("dev").of("aws:secretsmanager/secret:Secret")}
    assert "medallion-dev-alerts" not in secrets


def test_a_second_watch_is_refused() -> None:
    document = settings_of("dev")["medallion:platform"] | {"watch": {"copies": 2, "max_copies": 2}}
    with pytest.raises(pulumi.RunError, match=r"watch\.copies"):
        parse(document, stack="dev")
