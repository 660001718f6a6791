"""Settings of stacks, typed and validated: from `medallion:platform` in Pulumi.<stack>.yaml.

Sizes are those of AWS: `cpu` in units (1024 is one vCPU), memory in MB, storage in GB, money in US dollars a month.
"""

from ipaddress import IPv4Network
from typing import Literal, Self

import pulumi
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

#: Memory that Fargate sells with so much CPU: AWS refuses other pairs, an hour into the deployment.
FARGATE_MEMORY_MB = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
}
#: Days of retention that CloudWatch Logs knows.
LogDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSettings(_Settings):
    """Two zones, each with a public and a private subnet."""

    cidr: IPv4Network = Field(description="The network's CIDR block, at least a /20")
    nat: Literal["one", "per_zone"] = Field("one", description="One gateway costs less; one per zone survives a zone")
    interface_endpoints: bool = Field(False, description="Reach AWS services without the gateway, for an hourly price")
    source_cidrs: tuple[IPv4Network, ...] = Field((), description="Private networks of source databases, port 5432")

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        if self.cidr.prefixlen > 20:
            raise ValueError(f"{self.cidr} is too small for four subnets of flow runs: give it a /20 or larger")
        return self


class AccessSettings(_Settings):
    """Where people and workers find the Prefect server. Internal unless `public`."""

    host: str = Field(description="The server's host name, which the certificate must cover")
    certificate_arn: str = Field(pattern=r"^arn:aws:acm:", description="A certificate of the same region")
    public: bool = Field(False, description="Put the load balancer on the internet; needs allowed_cidrs")
    allowed_cidrs: tuple[IPv4Network, ...] = Field(
        (), description="Networks with access besides the platform: office, VPN"
    )

    @model_validator(mode="after")
    def _public_to_someone(self) -> Self:
        if self.public and not self.allowed_cidrs:
            raise ValueError("public: true needs allowed_cidrs, because there is no access by default")
        return self


class DatabaseSettings(_Settings):
    """One PostgreSQL on RDS."""

    instance_class: str = Field(pattern=r"^db\.")
    storage_gb: int = Field(ge=20, description="gp3; includes 3,000 IOPS below 400 GB and 12,000 from there on")
    max_storage_gb: int = Field(description="Limit of automatic storage growth")
    multi_az: bool = False
    backup_days: int = Field(1, ge=1, le=35, description="Point-in-time recovery to any second of so many days")
    insights_days: Literal[7, 31, 62, 93, 186, 465, 731] = Field(7, description="7 is free of charge")

    @model_validator(mode="after")
    def _can_grow(self) -> Self:
        if self.max_storage_gb < self.storage_gb * 1.1:
            raise ValueError("max_storage_gb must exceed storage_gb by a tenth, or RDS refuses to grow it")
        return self


class ServiceSettings(_Settings):
    """A service on Fargate: the size of one copy, and how many there are."""

    cpu: int
    memory_mb: int
    copies: int = Field(ge=1)
    max_copies: int

    @model_validator(mode="after")
    def _sold(self) -> Self:
        _check_fargate_size(self.cpu, self.memory_mb)
        if self.max_copies < self.copies:
            raise ValueError(f"max_copies {self.max_copies} is below copies {self.copies}")
        return self


class WatchSettings(ServiceSettings):
    """The watch, which sends alerts. One copy: another would send nothing more."""

    cpu: int = 256
    memory_mb: int = 512
    copies: Literal[1] = 1
    max_copies: Literal[1] = 1
    secret_variables: tuple[str, ...] = Field(
        (),
        description="Variables of the watch, such as MEDALLION_ALERT_WEBHOOK_URL, that the secret `alerts` has as JSON",
    )


class WorkPoolSettings(_Settings):
    """The worker that submits flow runs, and the size of a flow run."""

    name: str = Field("ecs", pattern=r"^[a-z][a-z0-9-]*$", description="The pool's name in Prefect")
    worker: ServiceSettings
    flow_cpu: int
    flow_memory_mb: int
    capacity: Literal["FARGATE", "FARGATE_SPOT"] = Field(
        "FARGATE", description="Spot costs less and may be interrupted; a load resumes from its last chunk"
    )
    concurrency_limit: int = Field(20, ge=1, description="Parallel flow runs, which bounds the bill")

    @model_validator(mode="after")
    def _sold(self) -> Self:
        _check_fargate_size(self.flow_cpu, self.flow_memory_mb)
        return self


class LakeSettings(_Settings):
    """How long objects stay where."""

    infrequent_after_days: int = Field(ge=30, description="S3 allows infrequent access from day 30 on")
    archive_after_days: int
    expire_after_days: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.infrequent_after_days + 30 <= self.archive_after_days:
            raise ValueError("archive_after_days must be at least 30 days after infrequent_after_days")
        if not self.archive_after_days + 90 <= self.expire_after_days:
            raise ValueError("expire_after_days must be 90 days after archive_after_days, which AWS bills in any case")
        return self


class LogSettings(_Settings):
    """CloudWatch logs."""

    retention_days: LogDays


class BudgetSettings(_Settings):
    """What a month may cost, and who hears of alarms."""

    monthly_usd: int = Field(ge=1)
    alarm_email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")


class KubernetesSettings(_Settings):
    """An EKS cluster beside ECS, for teams that run Kubernetes already."""

    version: str = "1.33"
    instance_type: str = "m7g.large"
    nodes: int = Field(2, ge=1)
    max_nodes: int = 6


class Platform(_Settings):
    """Everything that a stack decides."""

    owner: str
    production: bool = Field(False, description="Deletion protection, final snapshots, everything in two zones")
    network: NetworkSettings
    access: AccessSettings
    warehouse: DatabaseSettings
    prefect_database: DatabaseSettings
    prefect_server: ServiceSettings
    work_pool: WorkPoolSettings
    watch: WatchSettings = Field(default_factory=WatchSettings)
    lake: LakeSettings
    logs: LogSettings
    budget: BudgetSettings
    kubernetes: KubernetesSettings | None = None
    image_tag: str = Field(
        "first", description="Tag of the platform's image; tags are never overwritten, so each deployment sets its own"
    )
    secret_rotation_days: int = Field(30, ge=1, le=90)

    @model_validator(mode="after")
    def _one_server_stays_one(self) -> Self:
        if self.prefect_server.copies == 1 < self.prefect_server.max_copies:
            raise ValueError("prefect_server: events of one copy are not shared; set max_copies to 1, or copies to 2")
        return self

    @model_validator(mode="after")
    def _production_survives_a_zone(self) -> Self:
        if not self.production:
            return self
        single = [
            name
            for name, doubled in (
                ("network.nat", self.network.nat == "per_zone"),
                ("warehouse.multi_az", self.warehouse.multi_az),
                ("prefect_database.multi_az", self.prefect_database.multi_az),
                ("prefect_server.copies", self.prefect_server.copies >= 2),
                ("work_pool.worker.copies", self.work_pool.worker.copies >= 2),
            )
            if not doubled
        ]
        if single:
            raise ValueError(f"production must survive the loss of a zone; not redundant: {', '.join(single)}")
        return self


def _check_fargate_size(cpu: int, memory_mb: int) -> None:
    sold = FARGATE_MEMORY_MB.get(cpu)
    if sold is None:
        raise ValueError(f"Fargate does not offer {cpu} CPU units; it offers {', '.join(map(str, FARGATE_MEMORY_MB))}")
    if memory_mb not in sold:
        raise ValueError(f"Fargate offers {cpu} CPU units with {sold[0]} to {sold[-1]} MB, not with {memory_mb}")


def read() -> Platform:
    """The settings of the stack in force.

    Raises:
        pulumi.RunError: they are missing or wrong; Pulumi shows its message without a traceback.
    """
    return parse(pulumi.Config().require_object("platform"), stack=pulumi.get_stack())


def parse(document: object, *, stack: str) -> Platform:
    """Settings from the document under `medallion:platform`. Raises as `read`."""
    try:
        return Platform.model_validate(document)
    except ValidationError as problem:
        lines = [f"  {'.'.join(map(str, error['loc'])) or 'platform'}: {error['msg']}" for error in problem.errors()]
        raise pulumi.RunError(f"Pulumi.{stack}.yaml, medallion:platform:\n" + "\n".join(lines)) from None
