"""The Prefect server on ECS: behind a load balancer with TLS, its state in PostgreSQL with IAM authentication.

One copy does everything itself. From two copies on they answer requests only, schedules and events are the work of one
more service, and all share a cache; that is how Prefect asks for it.
"""

from collections.abc import Sequence

import pulumi
from pulumi_aws import ecs, lb, route53

from infra.local.prefect_server import RUN_DAYS
from infra.pulumi import fargate
from infra.pulumi.cache import Cache
from infra.pulumi.cluster import Cluster
from infra.pulumi.credentials import Credentials
from infra.pulumi.database import Database
from infra.pulumi.images import Images
from infra.pulumi.logs import SERVER, Logs
from infra.pulumi.naming import Component, Place
from infra.pulumi.network import ANYWHERE, Group, Network
from infra.pulumi.permissions import Allow
from infra.pulumi.stack import AccessSettings, ServiceSettings

PORT = 4200
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
#: The role in Prefect's database, a member of rds_iam.
DATABASE_ROLE = "prefect"
_HEALTH = "python -c \"import urllib.request; urllib.request.urlopen('http://localhost:4200/api/health', timeout=5)\""


class PrefectServer(Component):
    """`url` is the API's address for workers and people; `clients` admits a group to it."""

    def __init__(
        self,
        place: Place,
        settings: ServiceSettings,
        access: AccessSettings,
        *,
        cluster: Cluster,
        network: Network,
        database: Database,
        cache: Cache | None,
        credentials: Credentials,
        images: Images,
        logs: Logs,
        protect: bool,
    ) -> None:
        super().__init__("PrefectServer", place)
        self.url = f"https://{access.host}/api"
        self.balancer_group = Group(place, "balancer", network.vpc.id, "Load balancer of Prefect", self.inside)
        self._group = Group(place, "prefect-server", network.vpc.id, "Prefect server", self.inside)
        self._group.admit("balancer", self.balancer_group, PORT, "Load balancer to Prefect server")
        self._group.let_out("aws", ANYWHERE, 443, "AWS's services, by endpoint or gateway")
        database.admit(self._group, "prefect-server")
        if cache is not None:
            cache.admit(self._group)
        for index, cidr in enumerate(access.allowed_cidrs):
            self.balancer_group.admit_cidr(f"allowed-{index}", str(cidr), 443, "Named in the stack's settings")

        secrets = [credentials.prefect_api, *([cache.url] if cache is not None else [])]
        reads = list(credentials.may_read(secrets))
        self._execution = fargate.execution_role(
            place, "prefect-server", images=images, logs=logs, log_group=SERVER, secrets=reads, opts=self.inside
        )
        self._task = fargate.role(
            place,
            "prefect-server",
            [
                Allow(
                    ("rds-db:connect",),
                    (
                        place.arn(
                            "rds-db",
                            pulumi.Output.concat("dbuser:", database.instance.resource_id, f"/{DATABASE_ROLE}"),
                        ),
                    ),
                ),
                *fargate.may_be_entered(cluster.key),
            ],
            self.inside,
        )
        self._parts = (place, cluster, network, images, logs)
        environment: dict[str, pulumi.Input[str]] = {
            "PREFECT_SERVER_API_HOST": "0.0.0.0",  # noqa: S104 # nosec B104 - the security group decides who comes in
            "PREFECT_SERVER_API_PORT": str(PORT),
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # As it comes, only events are forgotten, and runs, their logs and artifacts stay for ever.
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_DAYS * 86_400),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": pulumi.Output.concat(
                f"postgresql+asyncpg://{DATABASE_ROLE}@", database.address, ":5432/prefect"
            ),
            # The token is put in by a plugin of prefect-aws, and Prefect loads no plugin unless it is told to.
            "PREFECT_PLUGINS_ENABLED": "true",
            "PREFECT_PLUGINS_ALLOW": "aws",
            "PREFECT_INTEGRATIONS_AWS_RDS_IAM_ENABLED": "true",
            "PREFECT_INTEGRATIONS_AWS_RDS_IAM_REGION_NAME": place.region,
            "SSL_CERT_FILE": fargate.CERTIFICATES,
        }
        injected: dict[str, pulumi.Input[str]] = {"PREFECT_SERVER_API_AUTH_STRING": credentials.prefect_api.arn}
        if cache is not None:
            environment |= {
                "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "infra.events.redis",
                "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
                "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            }
            injected |= {
                "PREFECT_REDIS_MESSAGING_URL": cache.url.arn,
                "PREFECT_SERVER_DOCKET_URL": cache.url.arn,
            }
        self._environment, self._injected = environment, injected

        earlier: list[pulumi.Resource] = []
        if cache is not None:
            background = ServiceSettings(cpu=settings.cpu, memory_mb=settings.memory_mb, copies=1, max_copies=1)
            # First and alone, because it brings the database up to date.
            earlier.append(
                self._service("background", background, ["prefect", "server", "services", "start"], served=None)
            )
        target, listener, self.balancer = self._balancer(access, network, protect)
        command = ["prefect", "server", "start", *(["--no-services"] if cache is not None else [])]
        self.service = self._service(
            "server", settings, command, served=target, after=[listener, *earlier], migrates=cache is None
        )
        self.target = target
        self.register_outputs({"url": self.url})

    def admit(self, name: str, clients: Group) -> None:
        """Let a group of tasks call the API."""
        self.balancer_group.admit(name, clients, 443, f"{name} to Prefect's API")

    def _service(
        self,
        name: str,
        settings: ServiceSettings,
        command: Sequence[str],
        *,
        served: lb.TargetGroup | None,
        after: Sequence[pulumi.Resource] = (),
        migrates: bool = True,
    ) -> ecs.Service:
        place, cluster, network, images, logs = self._parts
        container = fargate.Container(
            name=f"prefect-{name}",
            command=command,
            cpu=settings.cpu,
            memory_mb=settings.memory_mb,
            log_group=SERVER,
            environment={
                **self._environment,
                "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "true" if migrates else "false",
            },
            secrets=self._injected,
            port=PORT if served is not None else None,
            health_command=_HEALTH if served is not None else None,
        )
        definition = fargate.task_definition(
            place,
            container,
            image=images.image,
            execution=self._execution,
            task=self._task,
            logs=logs,
            opts=self.inside,
        )
        return fargate.service(
            place,
            container.name,
            settings,
            cluster=cluster.cluster,
            definition=definition,
            group=self._group,
            network=network,
            load_balancers=[
                ecs.ServiceLoadBalancerArgs(
                    target_group_arn=served.arn, container_name=container.name, container_port=PORT
                )
            ]
            if served is not None
            else (),
            opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(depends_on=list(after))),
        )

    def _balancer(
        self, access: AccessSettings, network: Network, protect: bool
    ) -> tuple[lb.TargetGroup, lb.Listener, lb.LoadBalancer]:
        name = f"{self.place.prefix}-prefect"
        balancer = lb.LoadBalancer(
            name,
            name=name,
            load_balancer_type="application",
            internal=not access.public,
            subnets=network.public_ids if access.public else network.private_ids,
            security_groups=[self.balancer_group.id],
            drop_invalid_header_fields=True,
            enable_deletion_protection=protect,
            idle_timeout=120,  # workers and flow runs keep websockets open, and ping more often than this
            opts=self.inside,
        )
        target = lb.TargetGroup(
            name,
            name=name,
            port=PORT,
            protocol="HTTP",
            target_type="ip",
            vpc_id=network.vpc.id,
            deregistration_delay=30,
            health_check=lb.TargetGroupHealthCheckArgs(
                path="/api/health", matcher="200", interval=15, healthy_threshold=2, unhealthy_threshold=3
            ),
            opts=self.inside,
        )
        listener = lb.Listener(
            name,
            load_balancer_arn=balancer.arn,
            port=443,
            protocol="HTTPS",
            ssl_policy=TLS_POLICY,
            certificate_arn=access.certificate_arn,
            default_actions=[lb.ListenerDefaultActionArgs(type="forward", target_group_arn=target.arn)],
            opts=self.inside,
        )
        zone = route53.Zone(
            name,
            name=access.host,
            comment="Prefect, seen from inside the network",
            vpcs=[route53.ZoneVpcArgs(vpc_id=network.vpc.id)],
            opts=self.inside,
        )
        route53.Record(
            name,
            zone_id=zone.zone_id,
            name=access.host,
            type="A",
            aliases=[
                route53.RecordAliasArgs(name=balancer.dns_name, zone_id=balancer.zone_id, evaluate_target_health=True)
            ],
            opts=self.inside,
        )
        return target, listener, balancer
