"""The monthly cost of a stack, estimated from its recorded graph, declared usage and declared prices.

Every type of resource is priced, or named as free: a new one that is neither is refused, so nothing is forgotten.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from infra.pulumi import prices
from infra.pulumi.graph import Graph, Node
from infra.pulumi.prices import HOURS


@dataclass(frozen=True)
class Usage:
    """What cannot be seen in a graph, a month: declared, and to be corrected by the first bill."""

    flow_run_hours: float
    lake_gb: float
    lake_infrequent_gb: float
    lake_archive_gb: float
    log_gb: float
    nat_gb: float
    endpoint_gb: float
    insights_metrics: int


USAGE: Mapping[str, Usage] = {
    "dev": Usage(120, 50, 50, 50, 5, 100, 0, 80),
    "staging": Usage(240, 100, 100, 200, 10, 150, 0, 120),
    "production": Usage(900, 500, 1000, 5000, 40, 200, 300, 160),
}


@dataclass(frozen=True)
class Line:
    """So much of something at a price: `monthly` in US dollars."""

    what: str
    quantity: float
    unit: str
    price: float

    @property
    def monthly(self) -> float:
        """US dollars a month."""
        return self.quantity * self.price


#: Types without a price of their own.
FREE_SERVICES = frozenset({"appautoscaling", "budgets", "iam", "serverlessrepository", "sns", "vpc"})
FREE_TYPES = frozenset(
    {
        "aws:cloudwatch/eventRule:EventRule",
        "aws:cloudwatch/eventTarget:EventTarget",
        "aws:cloudwatch/logGroup:LogGroup",  # what is written to them is in the usage
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/flowLog:FlowLog",
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/route:Route",
        "aws:ec2/routeTable:RouteTable",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/vpc:Vpc",
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "aws:ecs/cluster:Cluster",
        "aws:ecs/clusterCapacityProviders:ClusterCapacityProviders",
        "aws:ecs/taskDefinition:TaskDefinition",
        "aws:elasticache/subnetGroup:SubnetGroup",
        "aws:kms/alias:Alias",
        "aws:lb/listener:Listener",
        "aws:lb/targetGroup:TargetGroup",
        "aws:rds/parameterGroup:ParameterGroup",
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:route53/record:Record",
        "aws:s3/bucket:Bucket",  # what lies in it is in the usage
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "aws:s3/bucketVersioning:BucketVersioning",
        "aws:secretsmanager/secretRotation:SecretRotation",
        "aws:secretsmanager/secretVersion:SecretVersion",
        "aws:sqs/queue:Queue",  # a million requests a month are free, and events are fewer
        "aws:sqs/queuePolicy:QueuePolicy",
    }
)


class Unpriced(Exception):
    """A resource is neither priced nor named as free, or its size has no declared price."""


def estimate(graph: Graph, usage: Usage | None = None) -> list[Line]:
    """Lines of the estimate, the same things added up, the dearest first. `usage` stands in for the declared one.

    Raises:
        Unpriced: prices.py lacks the size of something, or a type is neither priced nor declared free.
    """
    found: dict[tuple[str, str, float], float] = {}
    usage = usage or USAGE[graph.stack]
    lines = [line for node in graph.nodes for line in _priced(graph, node)]
    for line in [*lines, *_used(graph, usage)]:
        place = (line.what, line.unit, line.price)
        found[place] = found.get(place, 0) + line.quantity
    added = [Line(what, quantity, unit, price) for (what, unit, price), quantity in found.items() if quantity]
    return sorted(added, key=lambda line: (-line.monthly, line.what))


def total(lines: list[Line]) -> float:
    """US dollars a month."""
    return sum(line.monthly for line in lines)


def _priced(graph: Graph, node: Node) -> Iterator[Line]:
    if not node.type.startswith("aws:") or node.type in FREE_TYPES or node.service in FREE_SERVICES:
        return
    rule = _RULES.get(node.type)
    if rule is None:
        raise Unpriced(f"{node.type} ({node.name}) is neither priced nor listed as free in infra/pulumi/costs.py")
    try:
        yield from rule(graph, node)
    except KeyError as problem:
        raise Unpriced(f"{node.name}: infra/pulumi/prices.py has no price for {problem}") from None


def _database(_: Graph, node: Node) -> Iterator[Line]:
    facts = node.inputs
    zones = 2 if facts.get("multiAz") else 1
    size = str(facts["instanceClass"])
    yield Line(f"RDS {size}", zones * HOURS, "hours", prices.RDS[size])
    yield Line("RDS storage (gp3)", zones * float(facts["allocatedStorage"]), "GB", prices.RDS_GP3_GB)
    # Measured nowhere: a day's changes are taken for a twentieth of the data, and the first copy is included.
    changed = float(facts["allocatedStorage"]) * 0.05 * (facts["backupRetentionPeriod"] - 1)
    yield Line("RDS backups", changed, "GB", prices.RDS_BACKUP_GB)


def _service(graph: Graph, node: Node) -> Iterator[Line]:
    family = str(node.inputs["taskDefinition"]).rpartition("/")[2]
    definition = graph.one("aws:ecs/taskDefinition:TaskDefinition", family)
    hours = float(node.inputs["desiredCount"]) * HOURS
    yield from _fargate(definition, hours, "FARGATE", "Fargate services")


def _fargate(definition: Node, hours: float, capacity: str, what: str) -> Iterator[Line]:
    vcpus, gigabytes = float(definition.inputs["cpu"]) / 1024, float(definition.inputs["memory"]) / 1024
    yield Line(f"{what}, processor", hours * vcpus, "vCPU hours", prices.FARGATE_VCPU[capacity])
    yield Line(f"{what}, memory", hours * gigabytes, "GB hours", prices.FARGATE_GB[capacity])


def _endpoint(_: Graph, node: Node) -> Iterator[Line]:
    if node.inputs["vpcEndpointType"] == "Interface":
        zones = len(node.inputs["subnetIds"])
        yield Line("Interface endpoints", zones * HOURS, "hours", prices.INTERFACE_ENDPOINT)


def _balancer(_: Graph, __: Node) -> Iterator[Line]:
    yield Line("Load balancer", HOURS, "hours", prices.LOAD_BALANCER)
    yield Line("Load balancer capacity units", HOURS, "hours", prices.LOAD_BALANCER_UNIT)


def _cache(_: Graph, node: Node) -> Iterator[Line]:
    size = str(node.inputs["nodeType"])
    yield Line(f"Valkey {size}", node.inputs["numCacheClusters"] * HOURS, "hours", prices.ELASTICACHE[size])


def _nodes(_: Graph, node: Node) -> Iterator[Line]:
    [size] = node.inputs["instanceTypes"]
    count = node.inputs["scalingConfig"]["desiredSize"]
    yield Line(f"EKS nodes {size}", count * HOURS, "hours", prices.EC2[size])


def _each(what: str, quantity: float, unit: str, price: float) -> Callable[[Graph, Node], Iterator[Line]]:
    def rule(_: Graph, __: Node) -> Iterator[Line]:
        yield Line(what, quantity, unit, price)

    return rule


_RULES: Mapping[str, Callable[[Graph, Node], Iterator[Line]]] = {
    "aws:rds/instance:Instance": _database,
    "aws:ecs/service:Service": _service,
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:lb/loadBalancer:LoadBalancer": _balancer,
    "aws:elasticache/replicationGroup:ReplicationGroup": _cache,
    "aws:eks/nodeGroup:NodeGroup": _nodes,
    "aws:eks/cluster:Cluster": _each("EKS control plane", HOURS, "hours", prices.EKS_CLUSTER),
    "aws:ec2/natGateway:NatGateway": _each("NAT gateways", HOURS, "hours", prices.NAT_GATEWAY),
    "aws:ec2/eip:Eip": _each("Public addresses", HOURS, "hours", prices.PUBLIC_ADDRESS),
    "aws:route53/zone:Zone": _each("Hosted zone", 1, "zones", prices.HOSTED_ZONE),
    "aws:secretsmanager/secret:Secret": _each("Secrets", 1, "secrets", prices.SECRET),
    "aws:kms/key:Key": _each("Keys", 1, "keys", prices.KEY),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _each("Alarms", 1, "alarms", prices.ALARM),
    "aws:cloudwatch/dashboard:Dashboard": _each("Dashboard", 1, "dashboards", prices.DASHBOARD),
    "aws:ecr/repository:Repository": _each("Images", 10, "GB", prices.REGISTRY_GB),
}


def _used(graph: Graph, usage: Usage) -> Iterator[Line]:
    flow_run = graph.one("aws:ecs/taskDefinition:TaskDefinition", f"medallion-{graph.stack}-flow-run")
    capacity = str(graph.settings["work_pool"].get("capacity", "FARGATE"))
    yield from _fargate(flow_run, usage.flow_run_hours, capacity, f"Flow runs ({capacity})")
    yield Line("Lake, standard", usage.lake_gb, "GB", prices.S3_GB)
    yield Line("Lake, infrequent access", usage.lake_infrequent_gb, "GB", prices.S3_INFREQUENT_GB)
    yield Line("Lake, archive", usage.lake_archive_gb, "GB", prices.S3_ARCHIVE_GB)
    yield Line("Logs ingested", usage.log_gb, "GB", prices.LOG_GB)
    kept = usage.log_gb * float(graph.settings["logs"]["retention_days"]) / 30
    yield Line("Logs stored", kept, "GB", prices.LOG_GB_KEPT)
    yield Line("Through NAT gateways", usage.nat_gb, "GB", prices.NAT_GB)
    yield Line("Through endpoints", usage.endpoint_gb, "GB", prices.ENDPOINT_GB)
    yield Line("Container insights", usage.insights_metrics, "metrics", prices.INSIGHTS_METRIC)
    masters = len(graph.of("aws:rds/instance:Instance"))
    yield Line("Secrets", masters, "secrets", prices.SECRET)  # the master passwords that RDS keeps
