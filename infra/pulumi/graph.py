"""The whole graph of a stack, recorded without a cloud: the real program under a monitor that answers as AWS would.

    graph = record("production")
    graph.of("aws:rds/instance:Instance")

The monitor answers with plausible ids and ARNs, so that what is built from them, such as a policy, is as it will be. It
cannot know what AWS would refuse.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import set_all_config
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.stack import run_in_stack

HERE = Path(__file__).parent
STACKS = ("dev", "staging", "production")
#: Placeholders in pages: the account that AWS uses in its documentation.
ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Node:
    """One resource or component as it was declared. `inputs` has the provider's names, such as `storageEncrypted`."""

    type: str
    name: str
    parent: str
    inputs: Mapping[str, Any]
    depends_on: tuple[str, ...]
    protect: bool

    @property
    def kind(self) -> str:
        """The last word of the type: `aws:rds/instance:Instance` is an `Instance`."""
        return self.type.rsplit(":", 1)[-1]

    @property
    def service(self) -> str:
        """The service of an AWS resource: `rds`."""
        return self.type.split(":")[1].split("/")[0]

    @property
    def component(self) -> bool:
        """A component groups resources and is none itself."""
        return self.type.startswith("medallion:")


@dataclass(frozen=True)
class Graph:
    """All resources of a stack in the order of their types and names, its outputs, and the settings it came from."""

    stack: str
    nodes: tuple[Node, ...]
    outputs: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def declared_public(self) -> bool:
        """Whether the settings put the load balancer on the internet."""
        return bool(self.settings["access"].get("public"))

    def of(self, *types: str) -> list[Node]:
        """Resources of these types."""
        return [node for node in self.nodes if node.type in types]

    def one(self, kind: str, name: str) -> Node:
        """The resource of that type and name."""
        [found] = [node for node in self.of(kind) if node.name == name]
        return found


def settings_of(stack: str) -> dict[str, Any]:
    """What Pulumi.<stack>.yaml says, as it says it."""
    config: dict[str, Any] = yaml.safe_load((HERE / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    return config


def record(
    stack: str, config: Mapping[str, Any] | None = None, *, program: Callable[[], object] | None = None
) -> Graph:
    """Run the program of a stack under the monitor. Takes 2 to 4 s.

    `config` stands in for Pulumi.<stack>.yaml, `program` for the one of this folder.

    Raises:
        pulumi.RunError: the settings are wrong.
    """
    found: list[Graph] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            found.append(_record(stack, config if config is not None else settings_of(stack), program))
        except BaseException as problem:  # handed on to the caller's thread, below
            problems.append(problem)

    # Pulumi keeps its state in context variables and in the thread's event loop: a thread of its own leaves no trace.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return found[0]


def _record(stack: str, config: Mapping[str, Any], program: Callable[[], object] | None) -> Graph:
    monitor = _Recorder(region=str(config["aws:region"]))
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    try:
        mocks.set_mocks(monitor.mocks, project="medallion", stack=stack, preview=False, monitor=monitor)
        set_root_resource(None)  # type: ignore[arg-type]  # the mocks' own stack, which has finished; ours comes next
        set_all_config({key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()})

        # Imported here, so that reading a settings file does not need the provider's 121 MB.
        from infra.pulumi.program import provision

        started = program or provision
        loop.run_until_complete(run_in_stack(lambda: _ignore(started())))
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    nodes = tuple(sorted(monitor.nodes, key=lambda node: (node.type, node.name)))
    return Graph(stack, nodes, monitor.outputs, config["medallion:platform"])


def _ignore(_: object) -> None:
    """What a program returns is none of Pulumi's business: it would wait for it."""


class _Recorder(mocks.MockMonitor):
    """Keeps what is registered, with its parent and what it waits for."""

    def __init__(self, region: str) -> None:
        super().__init__(_Answers(region))
        self.nodes: list[Node] = []
        self.outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        if request.type != "pulumi:pulumi:Stack":
            self.nodes.append(
                Node(
                    type=request.type,
                    name=request.name,
                    parent=_name_of(request.parent),
                    inputs=_plain(rpc.deserialize_properties(request.object)),
                    depends_on=tuple(sorted(_name_of(urn) for urn in request.dependencies)),
                    protect=request.protect,
                )
            )
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]  # of Pulumi

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        if "pulumi:pulumi:Stack" in request.urn:
            self.outputs = _plain(rpc.deserialize_properties(request.outputs))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]  # of Pulumi


def _name_of(urn: str) -> str:
    """`Type name` of an URN, without the types of those it stands in."""
    if not urn:
        return ""
    *_, types, name = urn.split("::")
    kind = types.rsplit("$", 1)[-1].rsplit(":", 1)[-1]
    return f"{kind} {name}"


def _plain(value: Any) -> Any:
    """Secrets lose their wrapping, and nothing else changes: no secret of this monitor's is one."""
    if isinstance(value, Mapping):
        if rpc.is_rpc_secret(value):
            return _plain(rpc.unwrap_rpc_secret(value))
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


class _Answers(mocks.Mocks):
    """What AWS would answer, as far as other resources are built from it."""

    def __init__(self, region: str) -> None:
        self._region = region

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        answers: dict[str, dict[str, Any]] = {
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
            "aws:index/getRegion:getRegion": {"region": self._region},
            "aws:index/getAvailabilityZones:getAvailabilityZones": {
                "names": [f"{self._region}{letter}" for letter in "abc"]
            },
        }
        return answers[args.token], []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        name = str(args.inputs.get("name") or args.name)
        arn = _arn(args.typ, name, self._region)
        state = {"name": name, "arn": arn, **args.inputs, **dict(self._computed(args, name))}
        identity = arn if args.typ in _IDENTIFIED_BY_ARN else f"{args.name}-id"
        return identity, state

    def _computed(self, args: mocks.MockResourceArgs, name: str) -> Iterator[tuple[str, Any]]:
        match args.typ:
            case "aws:rds/instance:Instance":
                yield "address", f"{name}.rds.{self._region}.amazonaws.com"
                yield "resourceId", f"db-{name}"
                secret = f"arn:aws:secretsmanager:{self._region}:{ACCOUNT}:secret:rds!{name}"
                yield "masterUserSecrets", [{"secretArn": secret}]
            case "aws:elasticache/replicationGroup:ReplicationGroup":
                yield "primaryEndpointAddress", f"{name}.cache.amazonaws.com"
            case "aws:lb/loadBalancer:LoadBalancer":
                yield "dnsName", f"internal-{name}.{self._region}.elb.amazonaws.com"
                yield "zoneId", "Z-ELB"
                yield "arnSuffix", f"app/{name}/0"
            case "aws:lb/targetGroup:TargetGroup":
                yield "arnSuffix", f"targetgroup/{name}/0"
            case "aws:route53/zone:Zone":
                yield "zoneId", f"Z-{name}"
            case "aws:ecr/repository:Repository":
                yield "repositoryUrl", f"{ACCOUNT}.dkr.ecr.{self._region}.amazonaws.com/{name}"
            case "aws:sqs/queue:Queue":
                yield "url", f"https://sqs.{self._region}.amazonaws.com/{ACCOUNT}/{name}"
            case "aws:kms/key:Key":
                yield "keyId", f"{args.name}-key"
            case "aws:serverlessrepository/cloudFormationStack:CloudFormationStack":
                function = f"arn:aws:lambda:{self._region}:{ACCOUNT}:function:{name}"
                yield "outputs", {"RotationLambdaARN": function}
            case "random:index/randomPassword:RandomPassword":
                yield "result", f"<password {args.name}>"


_IDENTIFIED_BY_ARN = {"aws:secretsmanager/secret:Secret", "aws:lb/listener:Listener", "aws:lb/targetGroup:TargetGroup"}
_RESOURCE_PART = {
    "aws:cloudwatch/logGroup:LogGroup": "log-group:",
    "aws:ecs/cluster:Cluster": "cluster/",
    "aws:ecs/service:Service": "service/",
    "aws:ecs/taskDefinition:TaskDefinition": "task-definition/",
    "aws:iam/role:Role": "role/",
    "aws:kms/key:Key": "key/",
    "aws:ecr/repository:Repository": "repository/",
    "aws:secretsmanager/secret:Secret": "secret:",
    "aws:cloudwatch/eventRule:EventRule": "rule/",
    "aws:rds/instance:Instance": "db:",
}
_SERVICE_PART = {"cloudwatch": "events", "lb": "elasticloadbalancing"}


def _arn(kind: str, name: str, region: str) -> str:
    if kind == "aws:s3/bucket:Bucket":
        return f"arn:aws:s3:::{name}"
    service = kind.split(":")[1].split("/")[0]
    part = _RESOURCE_PART.get(kind, "")
    if kind == "aws:iam/role:Role":
        return f"arn:aws:iam::{ACCOUNT}:role/{name}"
    service = "logs" if kind == "aws:cloudwatch/logGroup:LogGroup" else _SERVICE_PART.get(service, service)
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{part}{name}"
