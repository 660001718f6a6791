"""The network: two zones, each with a public subnet for gateways and a private one for everything that runs."""

from ipaddress import IPv4Network

import pulumi
from pulumi_aws import ec2, get_availability_zones_output, vpc

from infra.pulumi.naming import Component, Place
from infra.pulumi.stack import NetworkSettings

ZONES = 2
ANYWHERE = "0.0.0.0/0"
#: AWS's own services that flow runs and workers call; without an endpoint the way to them is the NAT gateway.
INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "ecs", "logs", "monitoring", "secretsmanager", "sqs", "ssmmessages", "kms")


class Network(Component):
    """VPC, subnets, ways out, and the endpoint of S3, which costs nothing.

    `private` and `public` hold the ids of two subnets each.
    """

    def __init__(self, place: Place, settings: NetworkSettings) -> None:
        super().__init__("Network", place)
        self.cidr = str(settings.cidr)
        self.source_cidrs = tuple(str(cidr) for cidr in settings.source_cidrs)
        self.vpc = ec2.Vpc(
            place.prefix,
            cidr_block=self.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": place.prefix},
            opts=self.inside,
        )
        # AWS makes this group and lets all its members talk; managed without rules, it lets nobody do anything.
        ec2.DefaultSecurityGroup(f"{place.prefix}-default", vpc_id=self.vpc.id, ingress=[], egress=[], opts=self.inside)
        zones = get_availability_zones_output(
            state="available", opts=pulumi.InvokeOutputOptions(provider=place.provider)
        )
        blocks = _subnets(settings.cidr)
        self.public = [self._subnet("public", i, blocks[i], zones.names[i]) for i in range(ZONES)]
        self.private = [self._subnet("private", i, blocks[ZONES + i], zones.names[i]) for i in range(ZONES)]
        gateway = ec2.InternetGateway(place.prefix, vpc_id=self.vpc.id, opts=self.inside)
        self._route_out("public", self.public, gateway_id=gateway.id)
        self._private_tables = self._ways_out(settings)
        ec2.VpcEndpoint(
            f"{place.prefix}-s3",
            vpc_id=self.vpc.id,
            vpc_endpoint_type="Gateway",
            service_name=pulumi.Output.format("com.amazonaws.{0}.s3", place.region),
            route_table_ids=[table.id for table in self._private_tables],
            opts=self.inside,
        )
        if settings.interface_endpoints:
            self._endpoints()
        self.register_outputs({})

    @property
    def private_ids(self) -> list[pulumi.Output[str]]:
        """Where everything runs: one subnet a zone."""
        return [subnet.id for subnet in self.private]

    @property
    def public_ids(self) -> list[pulumi.Output[str]]:
        """Where gateways stand, and the load balancer if the stack makes it public."""
        return [subnet.id for subnet in self.public]

    def _subnet(self, kind: str, index: int, block: IPv4Network, zone: pulumi.Output[str]) -> ec2.Subnet:
        name = f"{self.place.prefix}-{kind}-{'ab'[index]}"
        return ec2.Subnet(
            name,
            vpc_id=self.vpc.id,
            cidr_block=str(block),
            availability_zone=zone,
            map_public_ip_on_launch=False,
            tags={"Name": name},
            opts=self.inside,
        )

    def _ways_out(self, settings: NetworkSettings) -> list[ec2.RouteTable]:
        gateways = []
        for index in range(ZONES if settings.nat == "per_zone" else 1):
            name = f"{self.place.prefix}-nat-{'ab'[index]}"
            address = ec2.Eip(name, domain="vpc", opts=self.inside)
            gateways.append(
                ec2.NatGateway(name, allocation_id=address.id, subnet_id=self.public[index].id, opts=self.inside)
            )
        if len(gateways) == 1:
            return [self._route_out("private", self.private, nat_gateway_id=gateways[0].id)]
        return [
            self._route_out(f"private-{'ab'[index]}", [self.private[index]], nat_gateway_id=gateway.id)
            for index, gateway in enumerate(gateways)
        ]

    def _route_out(
        self,
        name: str,
        subnets: list[ec2.Subnet],
        *,
        gateway_id: pulumi.Output[str] | None = None,
        nat_gateway_id: pulumi.Output[str] | None = None,
    ) -> ec2.RouteTable:
        table = ec2.RouteTable(f"{self.place.prefix}-{name}", vpc_id=self.vpc.id, opts=self.inside)
        ec2.Route(
            f"{self.place.prefix}-{name}",
            route_table_id=table.id,
            destination_cidr_block=ANYWHERE,
            gateway_id=gateway_id,
            nat_gateway_id=nat_gateway_id,
            opts=self.inside,
        )
        for index, subnet in enumerate(subnets):
            ec2.RouteTableAssociation(
                f"{self.place.prefix}-{name}-{index}", route_table_id=table.id, subnet_id=subnet.id, opts=self.inside
            )
        return table

    def _endpoints(self) -> None:
        group = Group(self.place, "endpoints", self.vpc.id, "Endpoints of AWS's services", self.inside)
        group.admit_cidr("network", self.cidr, 443, "Everything in the network")
        for service in INTERFACE_ENDPOINTS:
            ec2.VpcEndpoint(
                f"{self.place.prefix}-{service.replace('.', '-')}",
                vpc_id=self.vpc.id,
                vpc_endpoint_type="Interface",
                service_name=pulumi.Output.format("com.amazonaws.{0}.{1}", self.place.region, service),
                subnet_ids=self.private_ids,
                security_group_ids=[group.id],
                private_dns_enabled=True,
                opts=self.inside,
            )


class Group:
    """A security group that lets nobody in and nothing out, until it is told to."""

    def __init__(
        self, place: Place, name: str, vpc_id: pulumi.Output[str], purpose: str, opts: pulumi.ResourceOptions
    ) -> None:
        self._name, self._opts = f"{place.prefix}-{name}", opts
        # Rules are resources of their own. The rule by which AWS lets everything out goes when Pulumi makes the group.
        self._group = ec2.SecurityGroup(
            self._name, vpc_id=vpc_id, description=purpose, tags={"Name": self._name}, opts=opts
        )
        self.id: pulumi.Output[str] = self._group.id

    def admit(self, name: str, other: "Group", port: int, why: str) -> None:
        """Let the members of another group in by a port, and those members out to here."""
        self._ingress(name, port, why, referenced_security_group_id=other.id)
        vpc.SecurityGroupEgressRule(
            f"{other._name}-to-{self._name}",
            security_group_id=other.id,
            referenced_security_group_id=self.id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=why,
            opts=self._opts,
        )

    def admit_cidr(self, name: str, cidr: str, port: int, why: str) -> None:
        """Let addresses in by a port."""
        self._ingress(name, port, why, cidr_ipv4=cidr)

    def let_out(self, name: str, cidr: str, port: int, why: str) -> None:
        """Let members reach addresses by a port."""
        vpc.SecurityGroupEgressRule(
            f"{self._name}-to-{name}",
            security_group_id=self.id,
            cidr_ipv4=cidr,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=why,
            opts=self._opts,
        )

    def _ingress(
        self,
        name: str,
        port: int,
        why: str,
        *,
        cidr_ipv4: str | None = None,
        referenced_security_group_id: pulumi.Output[str] | None = None,
    ) -> None:
        vpc.SecurityGroupIngressRule(
            f"{self._name}-from-{name}",
            security_group_id=self.id,
            cidr_ipv4=cidr_ipv4,
            referenced_security_group_id=referenced_security_group_id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=why,
            opts=self._opts,
        )


def _subnets(network: IPv4Network) -> list[IPv4Network]:
    """Four equal parts of the first half: the public ones need few addresses, but a later zone needs the other half."""
    return list(network.subnets(prefixlen_diff=3))[: 2 * ZONES]
