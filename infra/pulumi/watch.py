"""`medallion watch` on ECS: it checks the Prefect server, the warehouse and flow runs, and sends alerts."""

import pulumi

from infra.pulumi import fargate
from infra.pulumi.cluster import Cluster
from infra.pulumi.credentials import Credentials
from infra.pulumi.database import Database
from infra.pulumi.images import Images
from infra.pulumi.logs import WATCH, Logs
from infra.pulumi.naming import Component, Place
from infra.pulumi.network import ANYWHERE, Group, Network
from infra.pulumi.prefect_server import PrefectServer
from infra.pulumi.stack import WatchSettings


class Watch(Component):
    """One copy, without a volume: what it has sent directly is forgotten by a restart, and then sent once more."""

    def __init__(
        self,
        place: Place,
        settings: WatchSettings,
        *,
        cluster: Cluster,
        network: Network,
        server: PrefectServer,
        warehouse: Database,
        credentials: Credentials,
        images: Images,
        logs: Logs,
    ) -> None:
        super().__init__("Watch", place)
        group = Group(place, "watch", network.vpc.id, "The watch", self.inside)
        server.admit("watch", group)
        warehouse.admit(group, "watch")
        group.let_out("aws", ANYWHERE, 443, "AWS's services, channels of alerts, and APIs whose certificates it reads")
        for index, cidr in enumerate(network.source_cidrs):
            group.let_out(f"source-{index}", cidr, 5432, "A source database whose certificate it reads")

        alerts = credentials.of_alerts(settings.secret_variables) if settings.secret_variables else None
        injected: dict[str, pulumi.Input[str]] = {"PREFECT_API_AUTH_STRING": credentials.prefect_api.arn}
        if alerts is not None:
            for name in settings.secret_variables:
                injected[name] = pulumi.Output.concat(alerts.arn, f":{name}::")
        secrets = [credentials.prefect_api, *([alerts] if alerts is not None else [])]
        definition = fargate.task_definition(
            place,
            fargate.Container(
                name="watch",
                command=["medallion", "watch"],
                cpu=settings.cpu,
                memory_mb=settings.memory_mb,
                log_group=WATCH,
                environment={
                    "PREFECT_API_URL": server.url,
                    "MEDALLION_ENVIRONMENT": place.stack,
                    "MEDALLION_SECRETS_PREFIX": f"{place.prefix}/",
                    "SSL_CERT_FILE": fargate.CERTIFICATES,
                    "PGSSLROOTCERT": fargate.CERTIFICATES,
                    "AWS_DEFAULT_REGION": place.region,
                },
                secrets=injected,
                # It looks at the file that each round touches.
                health_command="python -m deployments.health",
            ),
            image=images.image,
            execution=fargate.execution_role(
                place,
                "watch",
                images=images,
                logs=logs,
                log_group=WATCH,
                secrets=list(credentials.may_read(secrets)),
                opts=self.inside,
            ),
            task=fargate.role(
                place,
                "watch",
                [
                    *credentials.may_read([credentials.roles["loader"], *credentials.sources.values()]),
                    *fargate.may_be_entered(cluster.key),
                ],
                self.inside,
            ),
            logs=logs,
            opts=self.inside,
        )
        # It waits for nothing: that the server is not there is what it reports.
        self.service = fargate.service(
            place,
            "watch",
            settings,
            cluster=cluster.cluster,
            definition=definition,
            group=group,
            network=network,
            opts=self.inside,
        )
        self.register_outputs({})
