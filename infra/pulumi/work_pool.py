"""The ECS work pool: a worker that submits flow runs as Fargate tasks, and the observer of their state changes.

ECS sends state changes of tasks to EventBridge, a rule puts them into a queue, and the observer in the worker reads
them: so a run whose container died is not shown as running forever.
"""

from collections.abc import Sequence

import pulumi
from pulumi_aws import cloudwatch, sqs

from infra.pulumi import fargate
from infra.pulumi.cluster import Cluster
from infra.pulumi.credentials import Credentials
from infra.pulumi.database import Database
from infra.pulumi.images import Images
from infra.pulumi.job_template import base_job_template
from infra.pulumi.keys import Keys
from infra.pulumi.lake import BACKUPS, LANDING, RESULTS, Lake
from infra.pulumi.logs import FLOW_RUNS, WORKER, Logs
from infra.pulumi.naming import Component, Place
from infra.pulumi.network import ANYWHERE, Group, Network
from infra.pulumi.permissions import Allow, document
from infra.pulumi.prefect_server import PrefectServer
from infra.pulumi.stack import ServiceSettings, WorkPoolSettings

HEALTH_PORT = 8080
#: As prefect-aws declares them: a message is tried three times, kept a week, and then two weeks among the dead.
RECEIVES, KEPT_SECONDS, DEAD_KEPT_SECONDS, HIDDEN_SECONDS = 3, 604_800, 1_209_600, 300


class WorkPool(Component):
    """Worker, queue, rule, roles, and the definition of a flow run. `template` is the pool's base job template."""

    def __init__(
        self,
        place: Place,
        settings: WorkPoolSettings,
        *,
        cluster: Cluster,
        network: Network,
        server: PrefectServer,
        warehouse: Database,
        lake: Lake,
        credentials: Credentials,
        images: Images,
        logs: Logs,
        keys: Keys,
    ) -> None:
        super().__init__("WorkPool", place)
        self._cluster, self._logs, self._images, self._keys = cluster, logs, images, keys
        self.queue, self.dead = self._queues()
        self._rule()
        flow_group = Group(place, "flow-runs", network.vpc.id, "Flow runs", self.inside)
        worker_group = Group(place, "worker", network.vpc.id, "Worker of the work pool", self.inside)
        server.admit("flow-runs", flow_group)
        server.admit("worker", worker_group)
        warehouse.admit(flow_group, "flow-runs")
        for group in (flow_group, worker_group):
            group.let_out("aws", ANYWHERE, 443, "AWS's services and source APIs")
        for index, cidr in enumerate(network.source_cidrs):
            flow_group.let_out(f"source-{index}", cidr, 5432, "A source database, named in the stack's settings")

        shared: dict[str, pulumi.Input[str]] = {
            "PREFECT_API_URL": server.url,
            "MEDALLION_ENVIRONMENT": place.stack,
            "SSL_CERT_FILE": fargate.CERTIFICATES,
            "AWS_DEFAULT_REGION": place.region,
        }
        injected: dict[str, pulumi.Input[str]] = {"PREFECT_API_AUTH_STRING": credentials.prefect_api.arn}
        api_secret = list(credentials.may_read([credentials.prefect_api]))
        flow_execution = fargate.execution_role(
            place, "flow-run", images=images, logs=logs, log_group=FLOW_RUNS, secrets=api_secret, opts=self.inside
        )
        flow_task = fargate.role(
            place,
            "flow-run",
            [
                *credentials.may_read([*credentials.roles.values(), *credentials.sources.values()]),
                *lake.may_use((LANDING, RESULTS, BACKUPS)),
            ],
            self.inside,
        )
        self.flow_run = fargate.task_definition(
            place,
            fargate.Container(
                name="flow-run",
                command=["prefect", "flow-run", "execute"],
                cpu=settings.flow_cpu,
                memory_mb=settings.flow_memory_mb,
                log_group=FLOW_RUNS,
                environment={
                    **shared,
                    "MEDALLION_SECRETS_PREFIX": f"{place.prefix}/",
                    "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": f"s3-bucket/{RESULTS}",
                    "PGSSLROOTCERT": fargate.CERTIFICATES,
                },
                secrets=injected,
            ),
            image=images.image,
            execution=flow_execution,
            task=flow_task,
            logs=logs,
            opts=self.inside,
        )

        worker_execution = fargate.execution_role(
            place, "worker", images=images, logs=logs, log_group=WORKER, secrets=api_secret, opts=self.inside
        )
        worker_task = fargate.role(place, "worker", self._worker_may(flow_execution.arn, flow_task.arn), self.inside)
        worker = fargate.task_definition(
            place,
            fargate.Container(
                name="worker",
                command=["prefect", "worker", "start", "--type", "ecs", "--pool", settings.name, "--with-healthcheck"],
                cpu=settings.worker.cpu,
                memory_mb=settings.worker.memory_mb,
                log_group=WORKER,
                environment={
                    **shared,
                    "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_ENABLED": "true",
                    "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME": self.queue.name,
                    "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_REGION": place.region,
                },
                secrets=injected,
                port=HEALTH_PORT,
                health_command=(
                    f'python -c "import urllib.request; '
                    f"urllib.request.urlopen('http://localhost:{HEALTH_PORT}/health', timeout=5)\""
                ),
            ),
            image=images.image,
            execution=worker_execution,
            task=worker_task,
            logs=logs,
            opts=self.inside,
        )
        self.worker = fargate.service(
            place,
            "worker",
            settings.worker,
            cluster=cluster.cluster,
            definition=worker,
            group=worker_group,
            network=network,
            opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(depends_on=[server.service])),
        )
        self.worker_settings: ServiceSettings = settings.worker
        self.template = pulumi.Output.all(
            cluster=cluster.cluster.arn,
            task_family=self.flow_run.family,
            execution_role_arn=flow_execution.arn,
            auth_string_secret_arn=credentials.prefect_api.arn,
            vpc_id=network.vpc.id,
            subnets=network.private_ids,
            security_group=flow_group.id,
            capacity=settings.capacity,
        ).apply(lambda values: base_job_template(**values))
        self.register_outputs({})

    def _queues(self) -> tuple[sqs.Queue, sqs.Queue]:
        name, key = f"{self.place.prefix}-ecs-events", self._keys.events
        dead = sqs.Queue(
            f"{name}-dead",
            name=f"{name}-dead",
            message_retention_seconds=DEAD_KEPT_SECONDS,
            visibility_timeout_seconds=60,
            kms_master_key_id=key.arn,
            opts=self.inside,
        )
        queue = sqs.Queue(
            name,
            name=name,
            message_retention_seconds=KEPT_SECONDS,
            visibility_timeout_seconds=HIDDEN_SECONDS,
            kms_master_key_id=key.arn,
            redrive_policy=pulumi.Output.json_dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": RECEIVES}),
            opts=self.inside,
        )
        return queue, dead

    def _rule(self) -> None:
        name = f"{self.place.prefix}-ecs-events"
        rule = cloudwatch.EventRule(
            name,
            name=name,
            description="State changes of this cluster's tasks",
            event_pattern=pulumi.Output.json_dumps(
                {
                    "source": ["aws.ecs"],
                    "detail-type": ["ECS Task State Change"],
                    "detail": {"clusterArn": [self._cluster.cluster.arn]},
                }
            ),
            opts=self.inside,
        )
        cloudwatch.EventTarget(name, rule=rule.name, arn=self.queue.arn, opts=self.inside)
        sqs.QueuePolicy(
            name,
            queue_url=self.queue.url,
            policy=document(
                Allow(
                    ("sqs:SendMessage",),
                    (self.queue.arn,),
                    services=("events.amazonaws.com",),
                    when={"ArnEquals": {"aws:SourceArn": rule.arn}},
                )
            ),
            opts=self.inside,
        )

    def _worker_may(self, *passed: pulumi.Input[str]) -> Sequence[Allow]:
        place, in_cluster = self.place, {"ArnEquals": {"ecs:cluster": self._cluster.cluster.arn}}
        tasks = place.arn("ecs", pulumi.Output.concat("task/", self._cluster.cluster.name, "/*"))
        # The pool names the family without a revision, and AWS checks that name or the newest revision's.
        family = place.arn("ecs", pulumi.Output.concat("task-definition/", self.flow_run.family))
        revisions = place.arn("ecs", pulumi.Output.concat("task-definition/", self.flow_run.family, ":*"))
        return [
            Allow(
                ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"),
                (self.queue.arn,),
            ),
            Allow(("kms:Decrypt",), (self._keys.events.arn,)),
            Allow(("ecs:RunTask",), (family, revisions), when=in_cluster),
            Allow(("ecs:StopTask", "ecs:DescribeTasks"), (tasks,), when=in_cluster),
            Allow(("ecs:TagResource",), (tasks,), when={"StringEquals": {"ecs:CreateAction": "RunTask"}}),
            Allow(("ecs:DescribeTaskDefinition",), ("*",)),
            Allow(("ec2:DescribeSubnets", "ec2:DescribeVpcs"), ("*",)),
            Allow(("iam:PassRole",), passed, when={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}),
            *self._logs.may_read(FLOW_RUNS),
            *fargate.may_be_entered(self._cluster.key),
        ]
