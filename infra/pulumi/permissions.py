"""IAM documents from statements, and the wildcards that AWS forces on them, as data with reasons.

    document(Allow(("s3:GetObject",), (bucket.arn.apply(lambda arn: f"{arn}/results/*"),)))

Whatever is not in FORCED is refused by infra/pulumi/policies.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi


@dataclass(frozen=True)
class Allow:
    """Who may do what to what. `services` and `accounts` are for trust, key, queue and bucket policies only."""

    actions: Sequence[str]
    resources: Sequence[pulumi.Input[str]] = ()
    when: Mapping[str, Mapping[str, pulumi.Input[str] | Sequence[pulumi.Input[str]]]] = field(default_factory=dict)
    services: Sequence[pulumi.Input[str]] = ()
    principals: Sequence[pulumi.Input[str]] = ()

    effect = "Allow"


@dataclass(frozen=True)
class Deny(Allow):
    """As `Allow`, and stronger; for everybody."""

    effect = "Deny"


@dataclass(frozen=True)
class Forced:
    """Actions that AWS grants on `*` only, or resources whose names end in what nobody knows beforehand."""

    actions: frozenset[str]
    resource: str
    reason: str


FORCED = (
    Forced(
        frozenset({"ecs:DescribeTaskDefinition"}),
        "*",
        "ECS has no read permission for a single task definition",
    ),
    Forced(
        frozenset({"ec2:DescribeVpcs", "ec2:DescribeSubnets"}),
        "*",
        "EC2 has no resource-level describe; the ECS worker checks its subnets with these",
    ),
    Forced(
        frozenset(
            {
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            }
        ),
        "*",
        "the channel of `ecs execute-command` has no ARN",
    ),
    Forced(frozenset({"ecr:GetAuthorizationToken"}), "*", "the token of a registry is issued to the account"),
    Forced(
        frozenset({"ecs:StopTask", "ecs:DescribeTasks", "ecs:TagResource"}),
        "task/<name>/*",
        "tasks get their ids when they start",
    ),
    Forced(
        frozenset({"ecs:RunTask"}),
        "task-definition/<name>:*",
        "each deployment registers one more revision of the same family",
    ),
    Forced(
        frozenset({"logs:CreateLogStream", "logs:PutLogEvents", "logs:GetLogEvents"}),
        "log-group:<name>:*",
        "streams are named after tasks, which get their ids when they start",
    ),
    Forced(
        frozenset({"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}),
        "<bucket>/<prefix>/*",
        "objects are named by their writers",
    ),
    Forced(frozenset({"s3:*"}), "<bucket>/*", "denied, not allowed: nothing without TLS"),
    Forced(
        frozenset({"kms:*"}),
        "* in a key's own policy",
        "without it nobody could administer the key, not even its account",
    ),
)


def document(*statements: Allow) -> pulumi.Output[str]:
    """The statements as an IAM policy document."""
    return pulumi.Output.json_dumps(
        {"Version": "2012-10-17", "Statement": [_statement(statement) for statement in statements]}
    )


def trust(service: str, *, account: pulumi.Input[str] | None = None) -> pulumi.Output[str]:
    """Who may take on a role: one service, on behalf of this account only where the service says so."""
    when = {"StringEquals": {"aws:SourceAccount": account}} if account is not None else {}
    return document(Allow(("sts:AssumeRole",), services=(service,), when=when))


def _statement(statement: Allow) -> dict[str, object]:
    made: dict[str, object] = {"Effect": statement.effect, "Action": sorted(statement.actions)}
    if statement.services:
        made["Principal"] = {"Service": list(statement.services)}
    elif statement.principals:
        made["Principal"] = {"AWS": list(statement.principals)}
    elif isinstance(statement, Deny):
        made["Principal"] = "*"
    if statement.resources:
        made["Resource"] = list(statement.resources)
    if statement.when:
        made["Condition"] = {key: dict(values) for key, values in statement.when.items()}
    return made
