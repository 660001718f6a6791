"""Policies hold in every stack, and each of them fails on what it is there for."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from infra.pulumi import facts
from infra.pulumi.graph import Graph, record, settings_of
from infra.pulumi.permissions import FORCED
from infra.pulumi.policies import POLICIES, violations
from tests.infra.pulumi.conftest import GraphOf

Change = Callable[[dict[str, Any]], dict[str, Any]]


def test_no_stack_violates_a_policy(graph: Graph) -> None:
    assert violations(graph) == []


def with_inputs(**changed: Any) -> Change:
    return lambda inputs: inputs | changed


def allowing(action: str, resource: str) -> Change:
    """One more statement in the policy of a role."""

    def change(inputs: dict[str, Any]) -> dict[str, Any]:
        document = json.loads(inputs["policy"])
        document["Statement"].append({"Effect": "Allow", "Action": [action], "Resource": [resource]})
        return inputs | {"policy": json.dumps(document)}

    return change


def without_conditions(inputs: dict[str, Any]) -> dict[str, Any]:
    document = json.loads(inputs["policy"])
    for statement in document["Statement"]:
        statement.pop("Condition", None)
    return inputs | {"policy": json.dumps(document)}


def telling(name: str, value: str) -> Change:
    """One more variable in the open."""

    def change(inputs: dict[str, Any]) -> dict[str, Any]:
        [container] = json.loads(inputs["containerDefinitions"])
        container["environment"].append({"name": name, "value": value})
        return inputs | {"containerDefinitions": json.dumps([container])}

    return change


def logging_elsewhere(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs | {"containerDefinitions": inputs["containerDefinitions"].replace("/medallion-", "/other-")}


RULE_IN, RULE_OUT = (
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
)
DATABASE, BUCKET = "aws:rds/instance:Instance", "aws:s3/bucket:Bucket"
ROLE_POLICY, SERVICE = "aws:iam/rolePolicy:RolePolicy", "aws:ecs/service:Service"
TASK = "aws:ecs/taskDefinition:TaskDefinition"
VPC_BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
PLAIN_S3 = [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]
LIFECYCLE = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
SUSPENDED = {"status": "Suspended"}
KEPT_FOR_EVER = [{"id": "all", "status": "Enabled", "filter": {"prefix": ""}}]

SEEDED: dict[str, list[tuple[str, Change, str]]] = {
    "nothing_is_public": [
        (DATABASE, with_inputs(publiclyAccessible=True), "public address"),
        (RULE_IN, with_inputs(cidrIpv4="0.0.0.0/0"), "allows ingress from everywhere"),
        (RULE_IN, with_inputs(cidrIpv6="::/0"), "allows ingress from everywhere"),
        (RULE_OUT, with_inputs(cidrIpv4="0.0.0.0/0", fromPort=0, toPort=65535), "egress to everywhere"),
        ("aws:ec2/securityGroup:SecurityGroup", with_inputs(ingress=[{"fromPort": 22}]), "inline rules"),
        ("aws:ec2/subnet:Subnet", with_inputs(mapPublicIpOnLaunch=True), "public address"),
        (SERVICE, with_inputs(networkConfiguration={"assignPublicIp": True}), "public addresses"),
        ("aws:lb/loadBalancer:LoadBalancer", with_inputs(internal=False), "on the internet"),
        (VPC_BLOCK, with_inputs(blockPublicPolicy=False), "not closed"),
    ],
    "everything_is_encrypted": [
        (DATABASE, with_inputs(storageEncrypted=False), "not encrypted"),
        (DATABASE, with_inputs(kmsKeyId=None), "not encrypted"),
        (DATABASE, with_inputs(performanceInsightsKmsKeyId=None), "performance insights"),
        ("aws:rds/parameterGroup:ParameterGroup", with_inputs(parameters=[]), "without TLS"),
        ("aws:elasticache/replicationGroup:ReplicationGroup", with_inputs(transitEncryptionMode="preferred"), "TLS"),
        ("aws:elasticache/replicationGroup:ReplicationGroup", with_inputs(kmsKeyId=None), "at rest"),
        ("aws:kms/key:Key", with_inputs(enableKeyRotation=False), "never rotates"),
        ("aws:lb/listener:Listener", with_inputs(protocol="HTTP"), "TLS older"),
        ("aws:lb/listener:Listener", with_inputs(sslPolicy="ELBSecurityPolicy-2016-08"), "TLS older"),
        ("aws:secretsmanager/secret:Secret", with_inputs(kmsKeyId=None), "not encrypted"),
        ("aws:cloudwatch/logGroup:LogGroup", with_inputs(kmsKeyId=None), "not encrypted"),
        ("aws:sqs/queue:Queue", with_inputs(kmsMasterKeyId=None), "not encrypted"),
        ("aws:sns/topic:Topic", with_inputs(kmsMasterKeyId=None), "not encrypted"),
        ("aws:ecr/repository:Repository", with_inputs(encryptionConfigurations=[]), "images"),
        (ENCRYPTION, with_inputs(rules=PLAIN_S3), "not encrypted"),
        ("aws:s3/bucketPolicy:BucketPolicy", without_conditions, "without TLS"),
    ],
    "backups_are_on": [
        (DATABASE, with_inputs(backupRetentionPeriod=7), "less than 14 days"),
        ("aws:s3/bucketVersioning:BucketVersioning", with_inputs(versioningConfiguration=SUSPENDED), "versions"),
        (LIFECYCLE, with_inputs(rules=KEPT_FOR_EVER), "forever"),
    ],
    "production_is_not_deleted_by_accident": [
        (DATABASE, with_inputs(deletionProtection=False), "one command"),
        (DATABASE, with_inputs(skipFinalSnapshot=True), "final snapshot"),
        (DATABASE, with_inputs(multiAz=False), "one zone"),
        (BUCKET, with_inputs(forceDestroy=True), "one command"),
        ("aws:lb/loadBalancer:LoadBalancer", with_inputs(enableDeletionProtection=False), "one command"),
        (SERVICE, with_inputs(desiredCount=1, loadBalancers=[{}]), "one copy"),
    ],
    "policies_have_no_wildcards": [
        (ROLE_POLICY, allowing("s3:*", "arn:aws:s3:::lake/landing/x"), "allows s3:*"),
        (ROLE_POLICY, allowing("s3:GetObject", "*"), "s3:GetObject on *"),
        (ROLE_POLICY, allowing("s3:GetObject", "arn:aws:s3:::*/*"), "on arn:aws:s3:::*/*"),
        (ROLE_POLICY, allowing("s3:GetObject", "arn:aws:s3:::lake/*"), "on arn:aws:s3:::lake/*"),
        (ROLE_POLICY, allowing("ecs:RunTask", "arn:aws:ecs:eu-central-1:1:task-definition/*:*"), "ecs:RunTask on"),
        (ROLE_POLICY, allowing("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu:1:secret:*"), "GetSecret"),
        (ROLE_POLICY, allowing("iam:PassRole", "arn:aws:iam::1:role/admin"), "passes roles"),
    ],
    "services_speak_for_this_account_only": [
        ("aws:sqs/queuePolicy:QueuePolicy", without_conditions, "on behalf of anyone"),
        ("aws:sns/topicPolicy:TopicPolicy", without_conditions, "on behalf of anyone"),
    ],
    "everything_is_tagged": [
        ("pulumi:providers:aws", with_inputs(defaultTags={"tags": {"project": "medallion"}}), "does not tag"),
    ],
    "logs_end": [
        ("aws:cloudwatch/logGroup:LogGroup", with_inputs(retentionInDays=None), "forever"),
        (DATABASE, with_inputs(enabledCloudwatchLogsExports=["audit"]), "a group that RDS creates"),
        (TASK, logging_elsewhere, "not our log group"),
    ],
    "secrets_are_injected": [
        (TASK, telling("PREFECT_API_AUTH_STRING", "x"), "in plain text"),
        (TASK, telling("MEDALLION_WAREHOUSE_URL", "postgresql://loader:pw@host/warehouse"), "in plain text"),
    ],
}  # fmt: skip
CASES = [(policy, *case) for policy, cases in SEEDED.items() for case in cases]


@pytest.mark.parametrize(("policy", "kind", "change", "words"), CASES, ids=[f"{c[0]}: {c[3]}" for c in CASES])
def test_a_seeded_violation_is_found_by_its_policy(
    graph_of: GraphOf, policy: str, kind: str, change: Change, words: str
) -> None:
    """In each resource of the type by itself: a policy must not pass because another resource is well."""
    graph = graph_of("production")
    candidates = [n for n in graph.of(kind) if kind != SERVICE or words != "one copy" or n.inputs.get("loadBalancers")]
    assert candidates
    for node in candidates:
        spoiled = dataclasses.replace(node, inputs=change(dict(node.inputs)))
        nodes = tuple(spoiled if n is node else n for n in graph.nodes)
        found = violations(dataclasses.replace(graph, nodes=nodes))
        assert [line for line in found if line.startswith(f"{policy}: {node.name}:") or words in line], node.name
        assert [line for line in found if words in line], (node.name, found)


def test_every_policy_has_a_seeded_violation() -> None:
    assert {policy.__name__ for policy in POLICIES} == set(SEEDED)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (VPC_BLOCK, "not closed"),
        (ENCRYPTION, "not encrypted"),
        ("aws:s3/bucketVersioning:BucketVersioning", "keeps no versions"),
        ("aws:s3/bucketPolicy:BucketPolicy", "without TLS"),
        ("pulumi:providers:aws", "exactly one provider"),
    ],
)
def test_what_is_left_out_is_found_too(graph_of: GraphOf, kind: str, words: str) -> None:
    """Half the dangers are things that nobody declared."""
    graph = graph_of("dev")
    nodes = tuple(node for node in graph.nodes if node.type != kind)
    assert [line for line in violations(dataclasses.replace(graph, nodes=nodes)) if words in line]


def test_an_unprotected_database_of_production_is_found(graph_of: GraphOf) -> None:
    """Pulumi's own protection, which is no input of the resource."""
    graph = graph_of("production")
    nodes = tuple(dataclasses.replace(node, protect=False) for node in graph.nodes)
    found = violations(dataclasses.replace(graph, nodes=nodes))
    assert len([line for line in found if "can be deleted by one command" in line]) == 3  # two databases and the lake


def test_a_forced_wildcard_is_no_licence_for_others() -> None:
    """Describing task definitions needs `*`; registering them does not get it by that."""
    assert facts.is_forced("ecs:DescribeTaskDefinition", "*")
    assert not facts.is_forced("ecs:RegisterTaskDefinition", "*")
    assert not facts.is_forced("ecs:StopTask", "*")
    assert not facts.is_forced("logs:PutLogEvents", "arn:aws:logs:eu-central-1:1:log-group:*:*")


def test_every_forced_wildcard_is_used_and_has_a_reason(graph_of: GraphOf) -> None:
    """An exception that nothing needs any more is a hole."""
    allowed = {
        (action, resource)
        for node in graph_of("production").nodes
        for statement in facts.all_statements(node)
        for action in statement["Action"]
        for resource in facts.as_list(statement.get("Resource", []))
        if "*" in resource
    }
    actions = {action for action, _ in allowed}
    for forced in FORCED:
        assert forced.actions <= actions, f"nobody needs {sorted(forced.actions - actions)} on {forced.resource}"
        assert len(forced.reason) > 20


def test_a_public_balancer_must_be_declared_and_lets_in_whom_it_names() -> None:
    config = settings_of("dev")
    config["medallion:platform"]["access"] |= {"public": True, "allowed_cidrs": ["203.0.113.0/24", "0.0.0.0/0"]}
    graph = record("dev", config)
    [balancer] = graph.of("aws:lb/loadBalancer:LoadBalancer")
    assert balancer.inputs["internal"] is False
    assert violations(graph) == []
    undeclared = dataclasses.replace(graph, settings=settings_of("dev")["medallion:platform"])
    assert len([line for line in violations(undeclared) if line.startswith("nothing_is_public")]) == 2
