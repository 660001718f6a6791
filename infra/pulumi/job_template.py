"""The base job template of the ECS work pool, for `prefect work-pool create --type ecs --base-job-template`."""

import copy
from typing import Any

from prefect_aws.workers import ECSWorker


def base_job_template(
    *,
    cluster: str,
    task_family: str,
    execution_role_arn: str,
    auth_string_secret_arn: str,
    vpc_id: str,
    subnets: list[str],
    security_group: str,
    capacity: str,
) -> dict[str, Any]:
    """prefect-aws's own template with this stack's values as defaults.

    Flow runs start from the task definition that Pulumi registered, by its family: the newest revision. So the worker
    needs no permission to register any, and a deployment of the stack changes flow runs without touching the pool.
    """
    template = copy.deepcopy(ECSWorker.get_default_base_job_template())
    variables = template["variables"]["properties"]
    for name, value in {
        "cluster": cluster,
        "task_definition_arn": task_family,
        "execution_role_arn": execution_role_arn,
        "prefect_api_auth_string_secret_arn": auth_string_secret_arn,
        "vpc_id": vpc_id,
        "network_configuration": {
            "subnets": subnets,
            "securityGroups": [security_group],
            "assignPublicIp": "DISABLED",
        },
        "launch_type": capacity,
    }.items():
        variables[name]["default"] = value
    # Ignored beside a registered definition, and the worker would warn of that at every run.
    template["job_configuration"]["task_definition"] = {}
    return template
