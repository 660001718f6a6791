"""Policies for every stack, as functions over the recorded graph. Each yields its violations.

    violations(record("production")) == []

A policy looks at what AWS will be asked for, not at the code that asks. To allow an exception, change the data it names
(FORCED, OPEN_EGRESS) and say why there.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from infra.pulumi.facts import (
    all_statements,
    as_list,
    containers,
    first,
    has_password,
    is_forced,
    parameters,
    statements,
)
from infra.pulumi.graph import Graph

Policy = Callable[[Graph], Iterator[str]]

ANYWHERE = ("0.0.0.0/0", "::/0")
#: Ports by which tasks may reach any address: AWS's services and the APIs that are read, by TLS.
OPEN_EGRESS = (443,)
#: Tags that the provider must put on everything.
TAGS = ("project", "stack", "owner", "managed-by")
#: Shortest periods that are accepted anywhere, in days.
BACKUP_DAYS, PRODUCTION_BACKUP_DAYS = 1, 14


def nothing_is_public(graph: Graph) -> Iterator[str]:
    """No public address, no way in for everybody, the lake closed, the balancer inside unless declared otherwise."""
    for node in graph.nodes:
        facts = node.inputs
        match node.type:
            case "aws:rds/instance:Instance" if facts.get("publiclyAccessible") is not False:
                yield f"{node.name}: the database has a public address"
            case "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" if _anywhere(facts) and not (
                graph.declared_public and "-balancer-from-allowed-" in node.name
            ):
                yield f"{node.name}: allows ingress from everywhere"
            case "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule" if _anywhere(facts) and (
                facts.get("fromPort"),
                facts.get("toPort"),
            ) not in [(p, p) for p in OPEN_EGRESS]:
                yield f"{node.name}: allows egress to everywhere beyond {OPEN_EGRESS}"
            case "aws:ec2/securityGroup:SecurityGroup" | "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup" if (
                facts.get("ingress") or facts.get("egress")
            ):
                yield f"{node.name}: has inline rules, which policies cannot check"
            case "aws:ec2/subnet:Subnet" if facts.get("mapPublicIpOnLaunch") is not False:
                yield f"{node.name}: assigns public addresses"
            case "aws:ecs/service:Service" if facts["networkConfiguration"].get("assignPublicIp") is not False:
                yield f"{node.name}: its tasks get public addresses"
            case "aws:eks/cluster:Cluster" if facts["vpcConfig"].get("endpointPublicAccess") is not False:
                yield f"{node.name}: the control plane is on the internet"
            case "aws:lb/loadBalancer:LoadBalancer" if facts.get("internal") is not True and not graph.declared_public:
                yield f"{node.name}: the load balancer is on the internet"
    yield from _every_bucket_has(
        graph,
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        lambda facts: all(
            facts.get(name) is True
            for name in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
        ),
        "is not closed to the public",
    )


def everything_is_encrypted(graph: Graph) -> Iterator[str]:
    """At rest by keys of ours that rotate, and on the way by TLS."""
    for node in graph.nodes:
        facts = node.inputs
        match node.type:
            case "aws:rds/instance:Instance":
                if facts.get("storageEncrypted") is not True or not facts.get("kmsKeyId"):
                    yield f"{node.name}: storage is not encrypted by our key"
                if facts.get("performanceInsightsEnabled") and not facts.get("performanceInsightsKmsKeyId"):
                    yield f"{node.name}: performance insights, which contain statements, are not encrypted by our key"
            case "aws:rds/parameterGroup:ParameterGroup" if parameters(node).get("rds.force_ssl") != "1":
                yield f"{node.name}: accepts connections without TLS"
            case "aws:elasticache/replicationGroup:ReplicationGroup":
                if facts.get("atRestEncryptionEnabled") is not True or not facts.get("kmsKeyId"):
                    yield f"{node.name}: not encrypted at rest by our key"
                if facts.get("transitEncryptionMode") != "required" or not facts.get("authToken"):
                    yield f"{node.name}: open without TLS or without a password"
            case "aws:kms/key:Key" if facts.get("enableKeyRotation") is not True:
                yield f"{node.name}: the key never rotates"
            case "aws:lb/listener:Listener" if facts.get("protocol") != "HTTPS" or "TLS13" not in str(
                facts.get("sslPolicy")
            ):
                yield f"{node.name}: accepts TLS older than 1.2"
            case "aws:secretsmanager/secret:Secret" | "aws:cloudwatch/logGroup:LogGroup" if not facts.get("kmsKeyId"):
                yield f"{node.name}: not encrypted by our key"
            case "aws:sqs/queue:Queue" | "aws:sns/topic:Topic" if not facts.get("kmsMasterKeyId"):
                yield f"{node.name}: not encrypted by our key"
            case "aws:ecr/repository:Repository" if first(facts, "encryptionConfigurations", "encryptionType") != "KMS":
                yield f"{node.name}: images are not encrypted by our key"
            case "aws:eks/cluster:Cluster" if not facts.get("encryptionConfig"):
                yield f"{node.name}: secrets of the cluster are not encrypted by our key"
    yield from _every_bucket_has(
        graph,
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        lambda facts: facts["rules"][0]["applyServerSideEncryptionByDefault"].get("sseAlgorithm") == "aws:kms",
        "is not encrypted by our key",
    )
    yield from _every_bucket_has(
        graph,
        "aws:s3/bucketPolicy:BucketPolicy",
        lambda facts: any(
            statement["Effect"] == "Deny"
            and statement.get("Principal") == "*"
            and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in statements(facts["policy"])
        ),
        "can be read without TLS",
    )


def backups_are_on(graph: Graph) -> Iterator[str]:
    """Databases are backed up, the lake keeps versions, and every object has an end."""
    least = PRODUCTION_BACKUP_DAYS if graph.stack == "production" else BACKUP_DAYS
    for node in graph.of("aws:rds/instance:Instance"):
        if node.inputs.get("backupRetentionPeriod", 0) < least:
            yield f"{node.name}: backups are kept for less than {least} days"
    yield from _every_bucket_has(
        graph,
        "aws:s3/bucketVersioning:BucketVersioning",
        lambda facts: facts["versioningConfiguration"].get("status") == "Enabled",
        "keeps no versions",
    )
    yield from _every_bucket_has(
        graph,
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        lambda facts: all(
            rule.get("status") == "Enabled" and (rule.get("expiration") or rule.get("abortIncompleteMultipartUpload"))
            for rule in facts["rules"]
        ),
        "keeps objects forever",
    )


def production_is_not_deleted_by_accident(graph: Graph) -> Iterator[str]:
    """Deletion protection at AWS and in Pulumi, final snapshots, and nothing single."""
    if graph.stack != "production":
        return
    for node in graph.of("aws:rds/instance:Instance"):
        facts = node.inputs
        if facts.get("deletionProtection") is not True or not node.protect:
            yield f"{node.name}: can be deleted by one command"
        if facts.get("skipFinalSnapshot") is not False or not facts.get("finalSnapshotIdentifier"):
            yield f"{node.name}: has no final snapshot"
        if facts.get("multiAz") is not True:
            yield f"{node.name}: is in one zone"
    for node in graph.of("aws:s3/bucket:Bucket"):
        if not node.protect or node.inputs.get("forceDestroy") is not False:
            yield f"{node.name}: can be deleted by one command"
    for node in graph.of("aws:lb/loadBalancer:LoadBalancer"):
        if node.inputs.get("enableDeletionProtection") is not True:
            yield f"{node.name}: can be deleted by one command"
    for node in graph.of("aws:ecs/service:Service"):
        if node.inputs.get("loadBalancers") and node.inputs.get("desiredCount", 0) < 2:
            yield f"{node.name}: one copy, in one zone"


def policies_have_no_wildcards(graph: Graph) -> Iterator[str]:
    """No action and no resource with a wildcard that AWS does not force on us; roles are passed to one service only."""
    for node in graph.nodes:
        for statement in all_statements(node):
            if statement["Effect"] == "Deny":
                continue
            own_key = node.type == "aws:kms/key:Key"
            for action in as_list(statement["Action"]):
                if "*" in action and not (own_key and action == "kms:*"):
                    yield f"{node.name}: allows {action}"
                for resource in as_list(statement.get("Resource", [])):
                    if "*" in resource and not own_key and not is_forced(action, resource):
                        yield f"{node.name}: allows {action} on {resource}"
            if "iam:PassRole" in as_list(statement["Action"]) and "iam:PassedToService" not in json.dumps(statement):
                yield f"{node.name}: passes roles to any service"
            if statement.get("Principal") == "*":
                yield f"{node.name}: allows everybody"


def services_speak_for_this_account_only(graph: Graph) -> Iterator[str]:
    """A queue, topic or key that a service may use says on whose behalf: else another account's events could use it."""
    for node in graph.of("aws:sqs/queuePolicy:QueuePolicy", "aws:sns/topicPolicy:TopicPolicy", "aws:kms/key:Key"):
        for statement in all_statements(node):
            principal = statement.get("Principal")
            if isinstance(principal, dict) and "Service" in principal and not statement.get("Condition"):
                yield f"{node.name}: {', '.join(as_list(principal['Service']))} may use it on behalf of anyone"


def everything_is_tagged(graph: Graph) -> Iterator[str]:
    """One provider makes everything, and it puts the tags on."""
    for node in graph.of("pulumi:providers:aws"):
        tags = node.inputs.get("defaultTags")
        tags = json.loads(tags) if isinstance(tags, str) else tags
        missing = [tag for tag in TAGS if not ((tags or {}).get("tags") or {}).get(tag)]
        if missing:
            yield f"{node.name}: does not tag resources with {', '.join(missing)}"
    if len(graph.of("pulumi:providers:aws")) != 1:
        yield "there is not exactly one provider, so resources may lack tags"
    components = {f"{node.kind} {node.name}" for node in graph.nodes if node.component}
    for node in graph.nodes:
        if not node.component and node.service != "providers" and node.parent not in components:
            yield f"{node.name} ({node.kind}): belongs to no component, and so to none of our providers"


def logs_end(graph: Graph) -> Iterator[str]:
    """Every group has a retention, and every container writes to a group of ours."""
    groups = {node.inputs["name"] for node in graph.of("aws:cloudwatch/logGroup:LogGroup")}
    for node in graph.of("aws:cloudwatch/logGroup:LogGroup"):
        if not node.inputs.get("retentionInDays"):
            yield f"{node.name}: kept forever"
    for node in graph.of("aws:rds/instance:Instance"):
        for kind in node.inputs.get("enabledCloudwatchLogsExports") or []:
            if f"/aws/rds/instance/{node.inputs['identifier']}/{kind}" not in groups:
                yield f"{node.name}: its log {kind} goes to a group that RDS creates, kept forever"
    for definition, container in containers(graph):
        group = (container.get("logConfiguration") or {}).get("options", {}).get("awslogs-group")
        if group not in groups:
            yield f"{definition.name}: writes to {group}, which is not our log group"


def secrets_are_injected(graph: Graph) -> Iterator[str]:
    """Nothing secret stands in an environment: ECS shows it to everybody who may describe a task."""
    words = ("password", "auth_string", "secret", "token", "api_key")
    for definition, container in containers(graph):
        for variable in container.get("environment") or []:
            name, value = variable["name"].lower(), str(variable["value"])
            named = any(word in name for word in words) and name != "medallion_secrets_prefix"
            if named or "<password" in value or has_password(value):
                yield f"{definition.name}: {variable['name']} is in plain text"


POLICIES: tuple[Policy, ...] = (
    nothing_is_public,
    everything_is_encrypted,
    backups_are_on,
    production_is_not_deleted_by_accident,
    policies_have_no_wildcards,
    services_speak_for_this_account_only,
    everything_is_tagged,
    logs_end,
    secrets_are_injected,
)


def violations(graph: Graph) -> list[str]:
    """What is wrong with the graph, `policy: resource: what`. Nothing, when all is well."""
    return [f"{policy.__name__}: {line}" for policy in POLICIES for line in policy(graph)]


def _anywhere(facts: Any) -> bool:
    return facts.get("cidrIpv4") in ANYWHERE or facts.get("cidrIpv6") in ANYWHERE


def _every_bucket_has(
    graph: Graph, kind: str, holds: Callable[[dict[str, Any]], bool], otherwise: str
) -> Iterator[str]:
    for bucket in graph.of("aws:s3/bucket:Bucket"):
        beside = [node for node in graph.of(kind) if node.inputs.get("bucket") == f"{bucket.name}-id"]
        if not any(holds(dict(node.inputs)) for node in beside):
            yield f"{bucket.name}: the bucket {otherwise}"
