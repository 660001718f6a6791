"""The ECS cluster, on Fargate only: there are no machines of ours to patch."""

import pulumi
from pulumi_aws import ecs, kms

from infra.pulumi.naming import Component, Place


class Cluster(Component):
    """Container insights are on: the alarms read from them. Sessions inside containers are encrypted."""

    def __init__(self, place: Place, *, key: kms.Key) -> None:
        super().__init__("Cluster", place)
        self.key = key
        self.cluster = ecs.Cluster(
            place.prefix,
            name=place.prefix,
            settings=[ecs.ClusterSettingArgs(name="containerInsights", value="enabled")],
            configuration=ecs.ClusterConfigurationArgs(
                execute_command_configuration=ecs.ClusterConfigurationExecuteCommandConfigurationArgs(
                    kms_key_id=key.arn, logging="DEFAULT"
                )
            ),
            opts=self.inside,
        )
        self.providers = ecs.ClusterCapacityProviders(
            place.prefix,
            cluster_name=self.cluster.name,
            capacity_providers=["FARGATE", "FARGATE_SPOT"],
            opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(depends_on=[self.cluster])),
        )
        self.register_outputs({})
