"""Our ECS work pool beside prefect-aws's own template: all that it has, and every difference with its reason.

The template is read from the installed package. A release that adds something fails here, until we have it too or say
why not.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest

from infra.pulumi import facts
from infra.pulumi.graph import Graph, Node
from tests.infra.pulumi.conftest import GraphOf

#: What the template makes, and what stands for it in our graph.
COUNTERPARTS = {
    "AWS::SQS::Queue": "aws:sqs/queue:Queue",
    "AWS::SQS::QueuePolicy": "aws:sqs/queuePolicy:QueuePolicy",
    "AWS::Events::Rule": "aws:cloudwatch/eventRule:EventRule",
    "AWS::IAM::Role": "aws:iam/role:Role",
    "AWS::IAM::Policy": "aws:iam/rolePolicy:RolePolicy",
    "AWS::Logs::LogGroup": "aws:cloudwatch/logGroup:LogGroup",
    "AWS::ECS::TaskDefinition": "aws:ecs/taskDefinition:TaskDefinition",
    "AWS::EC2::SecurityGroup": "aws:ec2/securityGroup:SecurityGroup",
    "AWS::ECS::Service": "aws:ecs/service:Service",
    "AWS::ApplicationAutoScaling::ScalableTarget": "aws:appautoscaling/target:Target",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "aws:appautoscaling/policy:Policy",
    "AWS::SecretsManager::Secret": "aws:secretsmanager/secret:Secret",
}
#: What the template allows the worker and we do not.
NOT_ALLOWED = {
    "ecs:RegisterTaskDefinition": "flow runs start from the definition that Pulumi registers",
    "ecs:DeregisterTaskDefinition": "the worker registers none, so it has none to take away",
    "ecs:DescribeClusters": "the cluster is named in the job template",
    "ecs:ListClusters": "as above",
    "ecs:ListTaskDefinitions": "as above, for the definition",
    "ecs:ListTasks": "the observer hears of tasks by the queue",
    "ec2:DescribeNetworkInterfaces": "neither worker nor observer calls it",
    "ec2:DescribeSecurityGroups": "as above",
    "logs:CreateLogGroup": "groups are made by Pulumi, with a retention and a key",
    "logs:CreateLogStream": "done by ECS in the execution role's name",
    "logs:PutLogEvents": "as above",
    "logs:DescribeLogStreams": "the observer knows the stream's name from the task",
    "sqs:GetQueueAttributes": "the observer asks for the queue's address, receives, deletes and hides messages",
}
#: Variables and secrets of the template's worker that have another name with us.
RENAMED = {
    "PREFECT_API_KEY": "of Prefect Cloud, where this stack runs a server of its own",
    "PREFECT_AUTH_STRING": "no setting of Prefect has that name; ours is PREFECT_API_AUTH_STRING",
}


@pytest.fixture(scope="module")
def template() -> Mapping[str, Any]:
    text = (files("prefect_aws") / "templates" / "ecs" / "service.json").read_text()
    resources: Mapping[str, Any] = json.loads(text)["Resources"]
    return resources


@pytest.fixture
def ours(graph_of: GraphOf) -> Graph:
    return graph_of("production")


def of_kind(template: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [resource["Properties"] for resource in template.values() if resource["Type"] == kind]


def worker_container(graph: Graph) -> dict[str, Any]:
    node = graph.one("aws:ecs/taskDefinition:TaskDefinition", f"medallion-{graph.stack}-worker")
    container: dict[str, Any] = json.loads(node.inputs["containerDefinitions"])[0]
    return container


def test_everything_that_the_template_makes_has_a_counterpart(template: Mapping[str, Any], ours: Graph) -> None:
    kinds = {resource["Type"] for resource in template.values()}
    assert kinds <= set(COUNTERPARTS), "prefect-aws makes something new"
    assert {COUNTERPARTS[kind] for kind in kinds} <= {node.type for node in ours.nodes}


def test_the_queues_keep_messages_as_long_and_hide_them_as_long(template: Mapping[str, Any], ours: Graph) -> None:
    def facts(name: str, retention: Any, hidden: Any) -> tuple[bool, int, int]:
        return ("dead" in name or "dlq" in name, int(retention), int(hidden))

    theirs = {
        facts(json.dumps(queue["QueueName"]), queue["MessageRetentionPeriod"], queue["VisibilityTimeout"])
        for queue in of_kind(template, "AWS::SQS::Queue")
    }
    mine = {
        facts(node.name, node.inputs["messageRetentionSeconds"], node.inputs["visibilityTimeoutSeconds"])
        for node in ours.of("aws:sqs/queue:Queue")
    }
    assert mine == theirs
    [redrive] = [queue["RedrivePolicy"] for queue in of_kind(template, "AWS::SQS::Queue") if "RedrivePolicy" in queue]
    [policy] = [
        json.loads(node.inputs["redrivePolicy"])
        for node in ours.of("aws:sqs/queue:Queue")
        if node.inputs.get("redrivePolicy")
    ]
    assert policy["maxReceiveCount"] == redrive["maxReceiveCount"]


def test_the_rule_hears_of_the_same_events_and_sends_them_to_the_queue(
    template: Mapping[str, Any], ours: Graph
) -> None:
    [theirs] = of_kind(template, "AWS::Events::Rule")
    [rule] = ours.of("aws:cloudwatch/eventRule:EventRule")
    pattern = json.loads(rule.inputs["eventPattern"])
    assert pattern["source"] == theirs["EventPattern"]["source"]
    assert pattern["detail-type"] == theirs["EventPattern"]["detail-type"]
    assert set(pattern["detail"]) == set(theirs["EventPattern"]["detail"]) == {"clusterArn"}
    [target] = ours.of("aws:cloudwatch/eventTarget:EventTarget")
    assert target.inputs["arn"].endswith(":medallion-production-ecs-events")


def test_the_worker_is_told_what_the_template_tells_it(template: Mapping[str, Any], ours: Graph) -> None:
    [definition] = of_kind(template, "AWS::ECS::TaskDefinition")
    [theirs] = definition["ContainerDefinitions"]
    mine = worker_container(ours)
    told = {variable["Name"] for variable in theirs["Environment"]}
    assert told <= {variable["name"] for variable in mine["environment"]}
    secrets = set(_names_of_secrets(theirs["Secrets"]))
    assert secrets == set(RENAMED), "prefect-aws injects another secret"
    assert [secret["name"] for secret in mine["secrets"]] == ["PREFECT_API_AUTH_STRING"]
    assert theirs["PortMappings"][0]["ContainerPort"] == mine["portMappings"][0]["containerPort"]
    assert "localhost:8080/health" in theirs["HealthCheck"]["Command"][1]
    assert "localhost:8080/health" in mine["healthCheck"]["command"][1]
    started = json.dumps(theirs["Command"])
    assert "prefect worker start --type ecs --pool ${WorkPoolName} --with-healthcheck" in started
    assert mine["command"] == ["prefect", "worker", "start", "--type", "ecs", "--pool", "ecs", "--with-healthcheck"]


def _names_of_secrets(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["Name"]] if "ValueFrom" in value else []
        return own + [name for inner in value.values() for name in _names_of_secrets(inner)]
    return [name for inner in value for name in _names_of_secrets(inner)] if isinstance(value, list) else []


def test_the_worker_may_what_the_template_allows_or_a_reason_says_why_not(
    template: Mapping[str, Any], ours: Graph
) -> None:
    theirs = {
        action
        for policy in of_kind(template, "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        for action in facts.as_list(statement["Action"])
    }
    worker = {"medallion-production-worker", "medallion-production-worker-execution"}
    mine = {
        action
        for node in ours.of("aws:iam/rolePolicy:RolePolicy")
        if node.name == "medallion-production-worker"
        for statement in facts.all_statements(node)
        for action in statement["Action"]
    }
    execution = {
        action
        for node in ours.of("aws:iam/rolePolicy:RolePolicy")
        if node.name in worker
        for statement in facts.all_statements(node)
        for action in statement["Action"]
    }
    assert theirs - execution - set(NOT_ALLOWED) == set(), "prefect-aws's worker needs something new"
    assert set(NOT_ALLOWED) & mine == set(), "allowed after all: take the reason away"
    assert set(NOT_ALLOWED) <= theirs, "the template does not ask for it any more: take the reason away"


def test_the_service_is_deployed_and_scaled_as_in_the_template(template: Mapping[str, Any], ours: Graph) -> None:
    [theirs] = of_kind(template, "AWS::ECS::Service")
    mine = ours.one("aws:ecs/service:Service", "medallion-production-worker").inputs
    deployment = theirs["DeploymentConfiguration"]
    assert mine["deploymentCircuitBreaker"] == {
        "enable": deployment["DeploymentCircuitBreaker"]["Enable"],
        "rollback": deployment["DeploymentCircuitBreaker"]["Rollback"],
    }
    assert mine["deploymentMaximumPercent"] == deployment["MaximumPercent"]
    assert mine["deploymentMinimumHealthyPercent"] == deployment["MinimumHealthyPercent"]
    assert mine["enableExecuteCommand"] is theirs["EnableExecuteCommand"]
    assert mine["networkConfiguration"]["assignPublicIp"] is False

    def tracked(configuration: Mapping[str, Any]) -> tuple[str, float, int, int]:
        low = {key[0].lower() + key[1:]: value for key, value in configuration.items()}
        metric = low["predefinedMetricSpecification"]
        kind = metric.get("predefinedMetricType") or metric.get("PredefinedMetricType")
        return str(kind), float(low["targetValue"]), int(low["scaleInCooldown"]), int(low["scaleOutCooldown"])

    wanted = {
        tracked(policy["TargetTrackingScalingPolicyConfiguration"])
        for policy in of_kind(template, "AWS::ApplicationAutoScaling::ScalingPolicy")
    }
    has = [policy.inputs["targetTrackingScalingPolicyConfiguration"] for policy in _policies_of(ours, "worker")]
    assert {tracked(one) for one in has if "predefinedMetricSpecification" in one} == wanted
    [queue] = [one["customizedMetricSpecification"] for one in has if one.get("customizedMetricSpecification")]
    assert queue["metricName"] == "ApproximateNumberOfMessagesVisible"
    assert queue["dimensions"] == [{"name": "QueueName", "value": "medallion-production-ecs-events"}]


def _policies_of(graph: Graph, service: str) -> list[Node]:
    return [
        node
        for node in graph.of("aws:appautoscaling/policy:Policy")
        if node.name.startswith(f"medallion-{graph.stack}-{service}-")
    ]
