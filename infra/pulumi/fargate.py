"""Shared parts of Fargate services: roles, a task definition of one container, and a service in two zones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi_aws import ecs, iam, kms

from infra.pulumi.images import Images
from infra.pulumi.logs import Logs
from infra.pulumi.naming import Place
from infra.pulumi.network import Group, Network
from infra.pulumi.permissions import Allow, document, trust
from infra.pulumi.stack import ServiceSettings

#: Certificates that the image trusts: the system's, and those of RDS. See docs/aws.md.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Container:
    """One container: its command, what it is told in the open, and what is put in from Secrets Manager."""

    name: str
    command: Sequence[pulumi.Input[str]]
    cpu: int
    memory_mb: int
    log_group: str
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    port: int | None = None
    health_command: str | None = None


def role(
    place: Place,
    name: str,
    statements: Sequence[Allow],
    opts: pulumi.ResourceOptions,
    *,
    service: str = "ecs-tasks.amazonaws.com",
) -> iam.Role:
    """A role that a service takes on, with one inline policy. No statement, no policy."""
    made = iam.Role(
        f"{place.prefix}-{name}",
        name=f"{place.prefix}-{name}",
        assume_role_policy=trust(service, account=place.account),
        opts=opts,
    )
    if statements:
        iam.RolePolicy(f"{place.prefix}-{name}", role=made.name, policy=document(*statements), opts=opts)
    return made


def execution_role(
    place: Place,
    name: str,
    *,
    images: Images,
    logs: Logs,
    log_group: str,
    secrets: Sequence[Allow],
    opts: pulumi.ResourceOptions,
) -> iam.Role:
    """What ECS itself needs to start the container: pull the image, open the log, read the secrets it injects."""
    return role(place, f"{name}-execution", [*images.may_pull(), *logs.may_write(log_group), *secrets], opts)


def task_definition(
    place: Place,
    container: Container,
    *,
    image: pulumi.Input[str],
    execution: iam.Role,
    task: iam.Role,
    logs: Logs,
    opts: pulumi.ResourceOptions,
) -> ecs.TaskDefinition:
    """One container on ARM, as PID 1 an init process that reaps children, its root file system as in the image."""
    definition: dict[str, object] = {
        "name": container.name,
        "image": image,
        "command": list(container.command),
        "essential": True,
        "cpu": container.cpu,
        "memory": container.memory_mb,
        "environment": [{"name": name, "value": value} for name, value in sorted(container.environment.items())],
        "secrets": [{"name": name, "valueFrom": arn} for name, arn in sorted(container.secrets.items())],
        "linuxParameters": {"initProcessEnabled": True},
        "stopTimeout": 120,  # the longest Fargate grants: a load closes its transaction and frees its lock
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": logs.groups[container.log_group].name,
                "awslogs-region": place.region,
                "awslogs-stream-prefix": container.name,
                # A log that cannot be written must not hold up the process that writes it.
                "mode": "non-blocking",
                "max-buffer-size": "25m",
            },
        },
    }
    if container.port is not None:
        definition["portMappings"] = [{"containerPort": container.port, "protocol": "tcp"}]
    if container.health_command is not None:
        definition["healthCheck"] = {
            "command": ["CMD-SHELL", container.health_command],
            "interval": 30,
            "timeout": 10,
            "retries": 3,
            "startPeriod": 120,
        }
    return ecs.TaskDefinition(
        f"{place.prefix}-{container.name}",
        family=f"{place.prefix}-{container.name}",
        container_definitions=pulumi.Output.json_dumps([definition]),
        cpu=str(container.cpu),
        memory=str(container.memory_mb),
        network_mode="awsvpc",
        requires_compatibilities=["FARGATE"],
        runtime_platform=ecs.TaskDefinitionRuntimePlatformArgs(
            operating_system_family="LINUX", cpu_architecture="ARM64"
        ),
        execution_role_arn=execution.arn,
        task_role_arn=task.arn,
        opts=opts,
    )


def service(
    place: Place,
    name: str,
    settings: ServiceSettings,
    *,
    cluster: ecs.Cluster,
    definition: ecs.TaskDefinition,
    group: Group,
    network: Network,
    opts: pulumi.ResourceOptions,
    load_balancers: Sequence[ecs.ServiceLoadBalancerArgs] = (),
) -> ecs.Service:
    """Copies spread over both zones. A deployment that does not become healthy is rolled back by ECS."""
    return ecs.Service(
        f"{place.prefix}-{name}",
        name=f"{place.prefix}-{name}",
        cluster=cluster.arn,
        task_definition=definition.arn,
        desired_count=settings.copies,
        launch_type="FARGATE",
        availability_zone_rebalancing="ENABLED",
        deployment_minimum_healthy_percent=100,
        deployment_maximum_percent=200,
        deployment_circuit_breaker=ecs.ServiceDeploymentCircuitBreakerArgs(enable=True, rollback=True),
        enable_execute_command=True,
        propagate_tags="SERVICE",
        health_check_grace_period_seconds=180 if load_balancers else None,
        load_balancers=list(load_balancers),
        network_configuration=ecs.ServiceNetworkConfigurationArgs(
            subnets=network.private_ids, security_groups=[group.id], assign_public_ip=False
        ),
        # Autoscaling moves the count; a deployment must not set it back.
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(ignore_changes=["desiredCount"])),
    )


def may_be_entered(key: kms.Key) -> list[Allow]:
    """For `aws ecs execute-command` and the port forwarding that goes through it; the cluster's key encrypts both."""
    return [
        Allow(
            (
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ),
            ("*",),
        ),
        Allow(("kms:Decrypt",), (key.arn,)),
    ]
