"""Valkey, through which several copies of the Prefect server share events and leases. A single copy needs none."""

import pulumi
import pulumi_random as random
from pulumi_aws import elasticache, kms, secretsmanager

from infra.pulumi.naming import Component, Place
from infra.pulumi.network import ZONES, Group, Network

PORT = 6379


class Cache(Component):
    """Two nodes in two zones, encrypted at rest and on the way, opened by a password in Secrets Manager."""

    def __init__(
        self,
        place: Place,
        node_type: str,
        *,
        network: Network,
        data_key: kms.Key,
        secret_key: kms.Key,
        recovery_days: int,
    ) -> None:
        super().__init__("Cache", place)
        name = f"{place.prefix}-cache"
        self.group = Group(place, "cache", network.vpc.id, "Valkey of the Prefect server", self.inside)
        subnets = elasticache.SubnetGroup(name, subnet_ids=network.private_ids, opts=self.inside)
        password = random.RandomPassword(name, length=48, special=False, opts=pulumi.ResourceOptions(parent=self))
        self.url = secretsmanager.Secret(
            name,
            name=f"{place.prefix}/cache",
            description="URL of the Prefect server's cache, with its password",
            kms_key_id=secret_key.arn,
            recovery_window_in_days=recovery_days,
            opts=self.inside,
        )
        self.cluster = elasticache.ReplicationGroup(
            name,
            replication_group_id=name,
            description=f"Events and leases of the Prefect server of {place.stack}",
            engine="valkey",
            engine_version="8.0",
            node_type=node_type,
            num_cache_clusters=ZONES,
            automatic_failover_enabled=True,
            multi_az_enabled=True,
            at_rest_encryption_enabled=True,
            kms_key_id=data_key.arn,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            auth_token=password.result,
            subnet_group_name=subnets.name,
            security_group_ids=[self.group.id],
            port=PORT,
            snapshot_retention_limit=1,
            auto_minor_version_upgrade=True,
            opts=self.inside,
        )
        secretsmanager.SecretVersion(
            name,
            secret_id=self.url.id,
            secret_string=pulumi.Output.format(
                "rediss://:{0}@{1}:{2}/0", password.result, self.cluster.primary_endpoint_address, PORT
            ),
            opts=self.inside,
        )
        self.register_outputs({})

    def admit(self, other: Group) -> None:
        """Let the server's tasks in."""
        self.group.admit("prefect-server", other, PORT, "Prefect server to its cache")
