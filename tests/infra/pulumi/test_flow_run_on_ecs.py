"""The real ECS worker submits a run with our base job template and our task definition, to moto's ECS."""

import json
import uuid
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from prefect_aws.observers.ecs import fetch_cloudwatch_logs
from prefect_aws.workers import ECSWorker
from prefect_aws.workers.ecs_worker import ECSJobConfiguration

from infra.pulumi.graph import Graph
from infra.pulumi.job_template import base_job_template
from tests.infra.pulumi.conftest import GraphOf
from tests.moto_aws import Aws, aws, moto

__all__ = ["aws", "moto"]

SECRET = "the-api-s-password"


@pytest.fixture
def graph(graph_of: GraphOf) -> Graph:
    return graph_of("dev")


def registered(graph: Graph, aws: Aws) -> str:
    """The flow run's task definition of the graph, registered as Pulumi would. Returns its family."""
    node = graph.one("aws:ecs/taskDefinition:TaskDefinition", "medallion-dev-flow-run")
    facts = node.inputs
    aws.client("ecs").register_task_definition(
        family=facts["family"],
        containerDefinitions=json.loads(facts["containerDefinitions"]),
        cpu=facts["cpu"],
        memory=facts["memory"],
        networkMode=facts["networkMode"],
        requiresCompatibilities=facts["requiresCompatibilities"],
        executionRoleArn=facts["executionRoleArn"],
        taskRoleArn=facts["taskRoleArn"],
        runtimePlatform=facts["runtimePlatform"],
    )
    return str(facts["family"])


def network(aws: Aws) -> tuple[str, list[str], str]:
    """A network with two subnets and a group: their ids."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})  # as the graph's network has it
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{index}.0/24")["Subnet"]["SubnetId"] for index in range(2)
    ]
    group = ec2.create_security_group(GroupName=f"g-{uuid.uuid4()}", Description="flow runs", VpcId=vpc)["GroupId"]
    return vpc, subnets, group


async def test_a_flow_run_starts_from_our_definition_in_our_network_and_no_secret_is_in_the_request(
    graph: Graph, aws: Aws, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)  # of the worker's own client
    family = registered(graph, aws)
    vpc, subnets, group = network(aws)
    cluster = aws.client("ecs").create_cluster(clusterName="medallion-dev")["cluster"]["clusterArn"]
    template = base_job_template(
        cluster=cluster,
        task_family=family,
        execution_role_arn="arn:aws:iam::123456789012:role/medallion-dev-flow-run-execution",
        auth_string_secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:medallion-dev/prefect-api",
        vpc_id=vpc,
        subnets=subnets,
        security_group=group,
        capacity="FARGATE",
    )
    configuration: Any = await ECSJobConfiguration.from_template_and_values(
        template, {"env": {"MEDALLION_ENVIRONMENT": "dev"}}
    )
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="ingest shop")
    # The worker has it, and passes it on to every run unless it is told where else the run finds it.
    with temporary_settings({PREFECT_API_AUTH_STRING: SECRET}):
        configuration.prepare_for_flow_run(run)

    async with ECSWorker("ecs") as worker:
        done = await worker.run(run, configuration)

    _, _, task_arn = done.identifier.rpartition("::")
    [task] = aws.client("ecs").describe_tasks(cluster=cluster, tasks=[task_arn])["tasks"]
    definition = task["taskDefinitionArn"]
    assert f"task-definition/{family}:" in definition
    known = aws.client("ecs").list_task_definitions()["taskDefinitionArns"]
    assert [arn for arn in known if "prefect_" in arn] == [], "the worker registered a definition of its own"
    [override] = task["overrides"]["containerOverrides"]
    told = {variable["name"]: variable["value"] for variable in override["environment"]}
    assert told["MEDALLION_ENVIRONMENT"] == "dev"
    assert told["PREFECT__FLOW_RUN_ID"] == str(run.id)
    assert SECRET not in json.dumps(task, default=str)
    assert configuration.network_configuration["assignPublicIp"] == "DISABLED"


async def test_the_observer_reads_the_log_that_our_definition_writes(graph: Graph, aws: Aws) -> None:
    """Runs that crashed before they reached the Prefect server are explained by CloudWatch."""
    import aiobotocore.session

    definition = graph.one("aws:ecs/taskDefinition:TaskDefinition", "medallion-dev-flow-run")
    [container] = json.loads(definition.inputs["containerDefinitions"])
    options = container["logConfiguration"]["options"]
    assert options["awslogs-group"] in {n.inputs["name"] for n in graph.of("aws:cloudwatch/logGroup:LogGroup")}
    # As the observer puts the name of the stream together.
    stream = f"{options['awslogs-stream-prefix']}/{container['name']}/{uuid.uuid4().hex}"
    logs = aws.client("logs")
    logs.create_log_group(logGroupName=options["awslogs-group"])
    logs.create_log_stream(logGroupName=options["awslogs-group"], logStreamName=stream)
    line = {"timestamp": _now(), "message": "OutOfMemoryError"}
    logs.put_log_events(logGroupName=options["awslogs-group"], logStreamName=stream, logEvents=[line])
    session: Any = aiobotocore.session.get_session()
    async with session.create_client("logs", region_name="eu-central-1", endpoint_url=aws.url) as client:
        found = await fetch_cloudwatch_logs(
            logs_client=client, log_group=options["awslogs-group"], log_stream=stream, max_events=10
        )
    assert found == ["OutOfMemoryError"]


def _now() -> int:
    import time

    return int(time.time() * 1000)


def test_the_template_is_one_that_prefect_takes_and_every_default_of_it_is_used(graph: Graph) -> None:
    template = graph.outputs["base_job_template"]
    variables = template["variables"]["properties"]
    used = json.dumps(template["job_configuration"])
    for name in ("cluster", "task_definition_arn", "vpc_id", "network_configuration", "launch_type"):
        assert variables[name]["default"]
        assert f"{{{{ {name} }}}}" in used
    assert variables["launch_type"]["default"] == "FARGATE_SPOT"
    assert variables["launch_type"]["default"] in variables["launch_type"]["enum"]
