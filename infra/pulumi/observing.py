"""Alarms, a budget, and a dashboard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_aws import budgets, cloudwatch, kms, sns

from infra.pulumi.database import Database
from infra.pulumi.naming import Component, Place
from infra.pulumi.permissions import Allow, document
from infra.pulumi.prefect_server import PrefectServer
from infra.pulumi.stack import BudgetSettings, DatabaseSettings
from infra.pulumi.watch import Watch
from infra.pulumi.work_pool import WorkPool

Comparison = Literal["GreaterThanThreshold", "LessThanThreshold"]
#: Bytes of one GB, as CloudWatch counts storage.
GB = 1024**3


@dataclass(frozen=True)
class Alarm:
    """One measure and the bound it must not pass for so many periods of so many seconds."""

    name: str
    why: str
    namespace: str
    metric: str
    dimensions: Mapping[str, pulumi.Input[str]]
    threshold: float
    comparison: Comparison = "GreaterThanThreshold"
    statistic: Literal["Average", "Maximum", "Minimum", "Sum"] = "Average"
    period: int = 300
    periods: int = 3
    missing: Literal["breaching", "notBreaching"] = "notBreaching"


class Observing(Component):
    """A topic with one mailbox, alarms, a budget for all that carries the stack's tag, a dashboard."""

    def __init__(
        self,
        place: Place,
        settings: BudgetSettings,
        *,
        key: kms.Key,
        server: PrefectServer,
        work_pool: WorkPool,
        watch: Watch,
        cluster_name: pulumi.Output[str],
        databases: Mapping[Database, DatabaseSettings],
    ) -> None:
        super().__init__("Observing", place)
        self._topic = self._mailbox(settings.alarm_email, key)
        alarms = [
            *_server_alarms(server),
            *_work_pool_alarms(work_pool, cluster_name),
            _watch_alarm(watch, cluster_name),
            *(alarm for database, sizes in databases.items() for alarm in _database_alarms(database, sizes)),
        ]
        for alarm in alarms:
            self._alarm(alarm)
        self._budget(settings)
        self._dashboard(alarms)
        self.register_outputs({})

    def _mailbox(self, email: str, key: kms.Key) -> sns.Topic:
        name = f"{self.place.prefix}-alarms"
        topic = sns.Topic(name, name=name, kms_master_key_id=key.id, opts=self.inside)
        sns.TopicPolicy(
            name,
            arn=topic.arn,
            policy=document(
                Allow(
                    ("sns:Publish",),
                    (topic.arn,),
                    services=("cloudwatch.amazonaws.com", "budgets.amazonaws.com"),
                    when={"StringEquals": {"aws:SourceAccount": self.place.account}},
                )
            ),
            opts=self.inside,
        )
        sns.TopicSubscription(name, topic=topic.arn, protocol="email", endpoint=email, opts=self.inside)
        return topic

    def _alarm(self, alarm: Alarm) -> None:
        cloudwatch.MetricAlarm(
            f"{self.place.prefix}-{alarm.name}",
            name=f"{self.place.prefix}-{alarm.name}",
            alarm_description=alarm.why,
            namespace=alarm.namespace,
            metric_name=alarm.metric,
            dimensions=alarm.dimensions,
            statistic=alarm.statistic,
            comparison_operator=alarm.comparison,
            threshold=alarm.threshold,
            period=alarm.period,
            evaluation_periods=alarm.periods,
            treat_missing_data=alarm.missing,
            alarm_actions=[self._topic.arn],
            ok_actions=[self._topic.arn],
            opts=self.inside,
        )

    def _budget(self, settings: BudgetSettings) -> None:
        def told(percent: float, kind: Literal["ACTUAL", "FORECASTED"]) -> budgets.BudgetNotificationArgs:
            return budgets.BudgetNotificationArgs(
                comparison_operator="GREATER_THAN",
                threshold=percent,
                threshold_type="PERCENTAGE",
                notification_type=kind,
                subscriber_email_addresses=[settings.alarm_email],
            )

        budgets.Budget(
            self.place.prefix,
            name=self.place.prefix,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(settings.monthly_usd),
            limit_unit="USD",
            cost_filters=[budgets.BudgetCostFilterArgs(name="TagKeyValue", values=[f"user:stack${self.place.stack}"])],
            notifications=[told(80, "ACTUAL"), told(100, "FORECASTED"), told(100, "ACTUAL")],
            opts=self.inside,
        )

    def _dashboard(self, alarms: list[Alarm]) -> None:
        def widget(index: int, alarm: Alarm) -> dict[str, object]:
            dimensions = [part for name, value in alarm.dimensions.items() for part in (name, value)]
            return {
                "type": "metric",
                "x": 8 * (index % 3),
                "y": 6 * (index // 3),
                "width": 8,
                "height": 6,
                "properties": {
                    "title": alarm.name,
                    "region": self.place.region,
                    "stat": alarm.statistic,
                    "period": alarm.period,
                    "metrics": [[alarm.namespace, alarm.metric, *dimensions]],
                    "annotations": {"horizontal": [{"label": "alarm", "value": alarm.threshold}]},
                },
            }

        cloudwatch.Dashboard(
            self.place.prefix,
            dashboard_name=self.place.prefix,
            dashboard_body=pulumi.Output.json_dumps(
                {"widgets": [widget(index, alarm) for index, alarm in enumerate(alarms)]}
            ),
            opts=self.inside,
        )


def _server_alarms(server: PrefectServer) -> list[Alarm]:
    balancer = {"LoadBalancer": server.balancer.arn_suffix}
    served = {**balancer, "TargetGroup": server.target.arn_suffix}
    balancing = "AWS/ApplicationELB"
    return [
        Alarm(
            "prefect-gone",
            "No copy of the Prefect server is healthy, so no run starts. Check its log group and its ECS events.",
            balancing,
            "HealthyHostCount",
            served,
            1,
            "LessThanThreshold",
            "Maximum",
            period=60,
            missing="breaching",
        ),
        Alarm(
            "prefect-errors",
            "The Prefect API returns errors: check its log group, then its database.",
            balancing,
            "HTTPCode_Target_5XX_Count",
            balancer,
            25,
            statistic="Sum",
        ),
    ]


def _work_pool_alarms(pool: WorkPool, cluster_name: pulumi.Output[str]) -> list[Alarm]:
    return [
        Alarm(
            "worker-gone",
            "Fewer workers run than desired: flow runs stay scheduled. Check the worker's log group.",
            "ECS/ContainerInsights",
            "RunningTaskCount",
            {"ClusterName": cluster_name, "ServiceName": pool.worker.name},
            pool.worker_settings.copies,
            "LessThanThreshold",
            "Minimum",
            missing="breaching",
        ),
        Alarm(
            "events-late",
            "Messages about ended tasks are older than ten minutes: crashed runs still appear as running.",
            "AWS/SQS",
            "ApproximateAgeOfOldestMessage",
            {"QueueName": pool.queue.name},
            600,
            statistic="Maximum",
        ),
        Alarm(
            "events-dead",
            "The observer failed to process messages: compare running flow runs with running tasks.",
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            {"QueueName": pool.dead.name},
            0,
            statistic="Maximum",
            periods=1,
        ),
    ]


def _watch_alarm(watch: Watch, cluster_name: pulumi.Output[str]) -> Alarm:
    return Alarm(
        "watch-gone",
        "The watch does not run, so the platform sends no alerts. Check its log group and its ECS events.",
        "ECS/ContainerInsights",
        "RunningTaskCount",
        {"ClusterName": cluster_name, "ServiceName": watch.service.name},
        1,
        "LessThanThreshold",
        "Maximum",
        missing="breaching",
    )


def _database_alarms(database: Database, sizes: DatabaseSettings) -> list[Alarm]:
    where = {"DBInstanceIdentifier": database.instance.identifier}
    return [
        Alarm(
            f"{database.name}-cpu",
            "Queries use all CPU: see Performance Insights.",
            "AWS/RDS",
            "CPUUtilization",
            where,
            90,
            periods=6,
        ),
        Alarm(
            f"{database.name}-storage",
            "Less than a tenth of storage is free: an unused replication slot, or growth beyond max_storage_gb.",
            "AWS/RDS",
            "FreeStorageSpace",
            where,
            sizes.storage_gb * GB // 10,
            "LessThanThreshold",
            "Minimum",
        ),
        Alarm(
            f"{database.name}-memory",
            "Less than 128 MB of memory are free: reduce connections, or use a larger class.",
            "AWS/RDS",
            "FreeableMemory",
            where,
            128 * 1024**2,
            "LessThanThreshold",
            "Minimum",
        ),
    ]
