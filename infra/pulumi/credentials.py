"""Secrets Manager: one rotated secret per warehouse role, and one per source, filled by the source's owner.

(The file is not called `secrets`: Pulumi runs this folder as a program, in which it would hide Python's own module.)
"""

from collections.abc import Iterator, Sequence

import pulumi
import pulumi_random as random
from pulumi_aws import kms, secretsmanager, serverlessrepository

from infra.pulumi.database import Database
from infra.pulumi.naming import Component, Place
from infra.pulumi.network import Group, Network
from infra.pulumi.permissions import Allow

#: Roles of the warehouse, as infra/local/roles.sql makes them.
ROLES = ("loader", "transformer", "reader")
#: AWS's own rotation function for PostgreSQL, by which a role changes its own password.
ROTATION = "arn:aws:serverlessrepo:us-east-1:297356227824:applications/SecretsManagerRDSPostgreSQLRotationSingleUser"
ROTATION_VERSION = "1.1.618"


class Credentials(Component):
    """Secrets by the names that flows look for: `<prefix>/warehouse-<role>`, `<prefix>/source-<connection>`."""

    def __init__(
        self,
        place: Place,
        *,
        sources: Sequence[str],
        warehouse: Database,
        network: Network,
        key: kms.Key,
        rotation_days: int,
        recovery_days: int,
    ) -> None:
        super().__init__("Credentials", place)
        self._key, self._recovery_days = key, recovery_days
        self.roles = {role: self._secret(f"warehouse-{role}", f"The warehouse as medallion_{role}") for role in ROLES}
        self.sources = {
            source: self._secret(
                f"source-{source.replace('_', '-')}", f"URL and key of the source {source}; set by its owner"
            )
            for source in sources
        }
        # What the server's API asks of workers and people: user:password.
        password = random.RandomPassword(
            f"{place.prefix}-prefect-api", length=40, special=False, opts=pulumi.ResourceOptions(parent=self)
        )
        self.prefect_api = self._secret("prefect-api", "User and password of the Prefect API")
        secretsmanager.SecretVersion(
            f"{place.prefix}-prefect-api",
            secret_id=self.prefect_api.id,
            secret_string=pulumi.Output.concat("medallion:", password.result),
            opts=self.inside,
        )
        self._rotate(warehouse, network, rotation_days)
        self.register_outputs({})

    def of_alerts(self, variables: Sequence[str]) -> secretsmanager.Secret:
        """A secret with addresses of channels; its owner puts them in."""
        return self._secret("alerts", f"JSON with {', '.join(variables)}; set by its owner")

    def may_read(self, secrets: Sequence[secretsmanager.Secret]) -> Iterator[Allow]:
        """Statements for a role that reads these secrets, and no others."""
        yield Allow(("secretsmanager:GetSecretValue",), [secret.arn for secret in secrets])
        yield Allow(("kms:Decrypt",), (self._key.arn,))

    def may_fill_roles(self) -> Iterator[Allow]:
        """Statements for a role that puts the first passwords in."""
        secrets = [secret.arn for secret in self.roles.values()]
        yield Allow(("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"), secrets)
        yield Allow(("kms:Decrypt", "kms:GenerateDataKey"), (self._key.arn,))

    def _secret(self, name: str, description: str) -> secretsmanager.Secret:
        return secretsmanager.Secret(
            f"{self.place.prefix}-{name}",
            name=f"{self.place.prefix}/{name}",
            description=description,
            kms_key_id=self._key.arn,
            recovery_window_in_days=self._recovery_days,
            opts=self.inside,
        )

    def _rotate(self, warehouse: Database, network: Network, days: int) -> None:
        group = Group(self.place, "rotation", network.vpc.id, "The function that rotates passwords", self.inside)
        warehouse.admit(group, "rotation")
        group.let_out("aws", "0.0.0.0/0", 443, "Secrets Manager, by its endpoint or the gateway")
        function = serverlessrepository.CloudFormationStack(
            f"{self.place.prefix}-rotation",
            name=f"{self.place.prefix}-rotation",
            application_id=ROTATION,
            semantic_version=ROTATION_VERSION,
            capabilities=["CAPABILITY_IAM", "CAPABILITY_RESOURCE_POLICY"],
            parameters={
                "endpoint": pulumi.Output.format("https://secretsmanager.{0}.amazonaws.com", self.place.region),
                "functionName": f"{self.place.prefix}-rotation",
                "kmsKeyArn": self._key.arn,
                "vpcSubnetIds": pulumi.Output.all(*network.private_ids).apply(",".join),
                "vpcSecurityGroupIds": group.id,
            },
            opts=self.inside,
        )
        for role, secret in self.roles.items():
            secretsmanager.SecretRotation(
                f"{self.place.prefix}-warehouse-{role}",
                secret_id=secret.id,
                rotation_lambda_arn=function.outputs.apply(lambda outputs: outputs["RotationLambdaARN"]),
                rotation_rules=secretsmanager.SecretRotationRotationRulesArgs(
                    automatically_after_days=days, duration="3h"
                ),
                # The first password is put in when the roles are made; until then there is nothing to rotate.
                rotate_immediately=False,
                opts=self.inside,
            )
