"""EKS, for teams that run Kubernetes already: a private cluster, nodes in both zones. Off unless a stack asks for it.

(The file is not called `kubernetes`: Pulumi runs this folder as a program, and it would hide the client's package.)
"""

from collections.abc import Sequence

import pulumi
from pulumi_aws import eks, iam, kms

from infra.pulumi.naming import Component, Place
from infra.pulumi.network import Network
from infra.pulumi.permissions import trust
from infra.pulumi.stack import KubernetesSettings

_MANAGED = "arn:aws:iam::aws:policy/"
CLUSTER_POLICIES = ("AmazonEKSClusterPolicy",)
NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly")


class Kubernetes(Component):
    """Control plane reached from inside the network only; its secrets encrypted by our key; its logs kept."""

    def __init__(
        self, place: Place, settings: KubernetesSettings, *, network: Network, key: kms.Key, protect: bool
    ) -> None:
        super().__init__("Kubernetes", place)
        control = self._role("eks", "eks.amazonaws.com", CLUSTER_POLICIES)
        nodes = self._role("eks-nodes", "ec2.amazonaws.com", NODE_POLICIES)
        self.cluster = eks.Cluster(
            place.prefix,
            name=place.prefix,
            version=settings.version,
            role_arn=control.arn,
            vpc_config=eks.ClusterVpcConfigArgs(
                subnet_ids=network.private_ids, endpoint_private_access=True, endpoint_public_access=False
            ),
            access_config=eks.ClusterAccessConfigArgs(authentication_mode="API"),
            encryption_config=eks.ClusterEncryptionConfigArgs(
                provider=eks.ClusterEncryptionConfigProviderArgs(key_arn=key.arn), resources=["secrets"]
            ),
            enabled_cluster_log_types=["api", "audit", "authenticator"],
            deletion_protection=protect,
            opts=self.inside,
        )
        eks.NodeGroup(
            place.prefix,
            cluster_name=self.cluster.name,
            node_role_arn=nodes.arn,
            subnet_ids=network.private_ids,
            ami_type="AL2023_ARM_64_STANDARD",
            instance_types=[settings.instance_type],
            scaling_config=eks.NodeGroupScalingConfigArgs(
                desired_size=settings.nodes, min_size=settings.nodes, max_size=settings.max_nodes
            ),
            opts=self.inside,
        )
        self.register_outputs({})

    def _role(self, name: str, service: str, policies: Sequence[str]) -> iam.Role:
        role = iam.Role(f"{self.place.prefix}-{name}", assume_role_policy=trust(service), opts=self.inside)
        for policy in policies:
            iam.RolePolicyAttachment(
                f"{self.place.prefix}-{name}-{policy}",
                role=role.name,
                policy_arn=_MANAGED + policy,
                opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(delete_before_replace=True)),
            )
        return role
