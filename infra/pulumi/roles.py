"""The task that creates roles, databases and first passwords: infra/aws_roles.py, started manually in the network."""

import pulumi
from pulumi_aws import ecs

from infra.pulumi import fargate
from infra.pulumi.credentials import Credentials
from infra.pulumi.database import Database
from infra.pulumi.images import Images
from infra.pulumi.logs import ROLES, Logs
from infra.pulumi.naming import Component, Place
from infra.pulumi.network import ANYWHERE, Group, Network
from infra.pulumi.permissions import Allow


class Roles(Component):
    """A task definition, never a service. It alone may read the administrators' passwords, and for that it is apart."""

    def __init__(
        self,
        place: Place,
        *,
        network: Network,
        warehouse: Database,
        prefect_database: Database,
        credentials: Credentials,
        images: Images,
        logs: Logs,
    ) -> None:
        super().__init__("Roles", place)
        self._group = Group(place, "roles", network.vpc.id, "The task that creates roles", self.inside)
        self._group.let_out("aws", ANYWHERE, 443, "Secrets Manager, images and logs, by endpoint or gateway")
        for database in (warehouse, prefect_database):
            database.admit(self._group, "roles")
        administrators = [warehouse.master_secret_arn, prefect_database.master_secret_arn]
        task = fargate.role(
            place,
            "roles",
            [Allow(("secretsmanager:GetSecretValue",), administrators), *credentials.may_fill_roles()],
            self.inside,
        )
        execution = fargate.execution_role(
            place, "roles", images=images, logs=logs, log_group=ROLES, secrets=[], opts=self.inside
        )
        self._definition = fargate.task_definition(
            place,
            fargate.Container(
                name="roles",
                command=[
                    "python", "-m", "infra.aws_roles",
                    "--warehouse", warehouse.address, "--warehouse-admin", warehouse.master_secret_arn,
                    "--prefect", prefect_database.address, "--prefect-admin", prefect_database.master_secret_arn,
                ],
                cpu=256,
                memory_mb=1024,
                log_group=ROLES,
                environment={
                    "MEDALLION_SECRETS_PREFIX": f"{place.prefix}/",
                    "AWS_DEFAULT_REGION": place.region,
                    "PGSSLROOTCERT": fargate.CERTIFICATES,
                },
            ),
            image=images.image,
            execution=execution,
            task=task,
            logs=logs,
            opts=self.inside,
        )  # fmt: skip
        self.register_outputs({})

    def run_task(self, cluster: ecs.Cluster, network: Network) -> pulumi.Output[str]:
        """What `aws ecs run-task --cli-input-json` is given to start it."""
        return pulumi.Output.json_dumps(
            {
                "cluster": cluster.name,
                "taskDefinition": self._definition.family,
                "launchType": "FARGATE",
                "networkConfiguration": {
                    "awsvpcConfiguration": {
                        "subnets": network.private_ids,
                        "securityGroups": [self._group.id],
                        "assignPublicIp": "DISABLED",
                    }
                },
            }
        )
