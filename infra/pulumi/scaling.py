"""Autoscaling of a service: by CPU, memory, and the depth of its queue."""

import pulumi
from pulumi_aws import appautoscaling, ecs, sqs

from infra.pulumi.naming import Component, Place
from infra.pulumi.stack import ServiceSettings

CPU_PERCENT = 70.0
MEMORY_PERCENT = 80.0
#: Messages waiting. A worker handles some tens of events a second, so this is a few seconds behind.
QUEUE_DEPTH = 100.0
#: Out quickly, in slowly: a copy too many costs cents, one too few holds up every flow run.
OUT_SECONDS, IN_SECONDS = 120, 300


class Scaling(Component):
    """Between `copies` and `max_copies`; whichever measure asks for most copies decides."""

    def __init__(
        self,
        place: Place,
        name: str,
        settings: ServiceSettings,
        *,
        cluster: ecs.Cluster,
        service: ecs.Service,
        queue: sqs.Queue | None = None,
    ) -> None:
        super().__init__("Scaling", place, name=name)
        self._name = f"{place.prefix}-{name}"
        target = appautoscaling.Target(
            self._name,
            min_capacity=settings.copies,
            max_capacity=settings.max_copies,
            resource_id=pulumi.Output.concat("service/", cluster.name, "/", service.name),
            scalable_dimension="ecs:service:DesiredCount",
            service_namespace="ecs",
            opts=self.inside,
        )
        predefined = appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationPredefinedMetricSpecificationArgs
        self._policy(
            "cpu", target, CPU_PERCENT, predefined=predefined(predefined_metric_type="ECSServiceAverageCPUUtilization")
        )
        self._policy(
            "memory",
            target,
            MEMORY_PERCENT,
            predefined=predefined(predefined_metric_type="ECSServiceAverageMemoryUtilization"),
        )
        if queue is not None:
            customized = appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationCustomizedMetricSpecificationArgs
            dimension = (
                appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationCustomizedMetricSpecificationDimensionArgs
            )
            self._policy(
                "queue-depth",
                target,
                QUEUE_DEPTH,
                customized=customized(
                    metric_name="ApproximateNumberOfMessagesVisible",
                    namespace="AWS/SQS",
                    statistic="Average",
                    dimensions=[dimension(name="QueueName", value=queue.name)],
                ),
            )
        self.register_outputs({})

    def _policy(
        self,
        measure: str,
        target: appautoscaling.Target,
        value: float,
        *,
        predefined: appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationPredefinedMetricSpecificationArgs
        | None = None,
        customized: appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationCustomizedMetricSpecificationArgs
        | None = None,
    ) -> None:
        appautoscaling.Policy(
            f"{self._name}-{measure}",
            policy_type="TargetTrackingScaling",
            resource_id=target.resource_id,
            scalable_dimension=target.scalable_dimension,
            service_namespace=target.service_namespace,
            target_tracking_scaling_policy_configuration=appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationArgs(
                target_value=value,
                scale_out_cooldown=OUT_SECONDS,
                scale_in_cooldown=IN_SECONDS,
                predefined_metric_specification=predefined,
                customized_metric_specification=customized,
            ),
            opts=self.inside,
        )
