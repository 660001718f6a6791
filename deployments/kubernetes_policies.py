"""`python -m deployments.kubernetes_policies`: policies for every manifest of every environment.

Each policy is a function of the manifests of one environment, and yields a line per violation. They run on the output
of kustomize, so that they cover patches of overlays.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deployments.kubernetes_manifests import OVERLAYS, Manifest, job, render, unknown_fields

Policy = Callable[[Sequence[Manifest]], Iterator[str]]
#: What alone reaches a pod's environment in the open; any other word of this kind is a secret's.
_SECRET = re.compile(r"(password|secret|token|api_?key|auth_string|credential)", re.IGNORECASE)
_WRITABLE = {"/tmp", "/var/lib/medallion"}  # noqa: S108 # nosec B108 - a mount in a container


def api_knows_every_field(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if problem := unknown_fields(manifest):
            yield f"{_name(manifest)}: {problem}"


def pods_are_restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The profile `restricted` of Pod Security, and a root file system that nobody writes to."""
    for name, pod in _pods(manifests):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name} may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has no seccomp profile"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name} shares the host's namespaces"
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                yield f"{name} mounts a path of the host"
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name} may fill the disk of its node through {volume['name']}"
        for container in _containers(pod):
            own = container.get("securityContext", {})
            if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
                yield f"{name} may gain privileges"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
                yield f"{name} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name} may write to its image"
            if {mount["mountPath"] for mount in container.get("volumeMounts", [])} < _WRITABLE:
                yield f"{name} cannot write where the platform writes"


def everything_has_limits(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, pod in _pods(manifests):
        for container in _containers(pod):
            for kind in ("requests", "limits"):
                for resource in ("cpu", "memory"):
                    if not container.get("resources", {}).get(kind, {}).get(resource):
                        yield f"{name} has no {kind} of {resource}"
    for kind in ("ResourceQuota", "LimitRange"):
        if not any(manifest["kind"] == kind for manifest in manifests):
            yield f"the namespace has no {kind}"


def images_are_pinned(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, pod in _pods(manifests):
        for container in _containers(pod):
            image = str(container.get("image") or "")
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and (not tag or tag.startswith("latest")):
                yield f"{name} does not pin its image {image or ''}"


def no_secret_in_the_open(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            yield f"{_name(manifest)} is a secret in a file"
        if manifest["kind"] == "ConfigMap":
            for key, value in manifest.get("data", {}).items():
                if _SECRET.search(key) or re.search(r"://[^/\s]*:[^/\s]*@", str(value)):
                    yield f"{_name(manifest)} holds {key}"
    for name, pod in _pods(manifests):
        for container in _containers(pod):
            for variable in container.get("env", []):
                # A reference names a secret, and the names of secrets are none.
                named = variable["name"].endswith(("_SECRET_NAME", "_SECRET_KEY"))
                if "value" in variable and _SECRET.search(variable["name"]) and not named:
                    yield f"{name} gets {variable['name']} in plain text"


def deployments_can_be_watched_and_drained(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Probes, a budget for disruptions, copies spread over zones and nodes, a moment to end."""
    budgets = [manifest for manifest in manifests if manifest["kind"] == "PodDisruptionBudget"]
    for manifest in _of(manifests, "Deployment"):
        name, pod = _name(manifest), manifest["spec"]["template"]["spec"]
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        for container in _containers(pod):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{name} has no {probe}"
        fitting = [budget for budget in budgets if budget["spec"]["selector"]["matchLabels"].items() <= labels.items()]
        if len(fitting) != 1:
            yield f"{name} has {len(fitting)} disruption budgets"
        elif fitting[0]["spec"].get("maxUnavailable") != 1:
            yield f"{name} would block the drain of a node"
        spread = {constraint["topologyKey"] for constraint in pod.get("topologySpreadConstraints", [])}
        if spread != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{name} is not spread over zones and nodes"
        if pod.get("terminationGracePeriodSeconds", 30) < 15:
            yield f"{name} has no termination grace period"


def networks_are_closed(manifests: Sequence[Manifest]) -> Iterator[str]:
    policies = _of(manifests, "NetworkPolicy")
    closed = [
        policy
        for policy in policies
        if policy["spec"]["podSelector"] == {}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not {"ingress", "egress"} & policy["spec"].keys()
    ]
    if not closed:
        yield "the namespace has no default-deny network policy"
    for policy in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                if not rule.get("ports"):
                    yield f"{_name(policy)} opens every port"
                if direction == "ingress" and not rule.get(peers):
                    yield f"{_name(policy)} allows ingress from everywhere"
    for service in _of(manifests, "Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{_name(service)} is reached from outside the cluster"


def accounts_may_do_little(manifests: Sequence[Manifest]) -> Iterator[str]:
    """No wildcard, nothing of the whole cluster, no secret; tokens only in pods whose account is bound to a role."""
    accounts = {manifest["metadata"]["name"]: manifest for manifest in _of(manifests, "ServiceAccount")}
    for manifest in manifests:
        if manifest["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
            yield f"{_name(manifest)} reaches beyond its namespace"
    for role in _of(manifests, "Role"):
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            if "*" in words or words & {"secrets", "pods/exec", "impersonate", "escalate", "bind"}:
                yield f"{_name(role)} grants too much"
    bound = set()
    for binding in _of(manifests, "RoleBinding"):
        for subject in binding["subjects"]:
            bound.add(subject["name"])
            account = accounts.get(subject["name"])
            if account is None or account["metadata"].get("namespace") != subject.get("namespace"):
                yield f"{_name(binding)} binds {subject.get('namespace')}/{subject['name']}, which does not exist"
    for name, account in accounts.items():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {name} mounts its token automatically"
    for name, pod in _pods(manifests):
        account_name = pod.get("serviceAccountName")
        if account_name not in accounts and not name.startswith("Job"):
            yield f"{name} runs as {account_name}, which does not exist"
        if pod.get("automountServiceAccountToken") is not False and account_name not in bound:
            yield f"{name} has a token that it does not need"


def namespace_is_guarded(manifests: Sequence[Manifest]) -> Iterator[str]:
    namespaces = _of(manifests, "Namespace")
    for namespace in namespaces:
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{_name(namespace)} does not enforce `restricted`"
    known = {namespace["metadata"]["name"] for namespace in namespaces}
    for manifest in manifests:
        if manifest["kind"] != "Namespace" and manifest["metadata"].get("namespace") not in known:
            yield f"{_name(manifest)} is not in the namespace of its environment"


def what_is_named_is_there(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Secrets and settings that pods read, selectors of services and budgets, targets of autoscalers."""
    there = {(manifest["kind"], manifest["metadata"].get("name")) for manifest in manifests}
    there |= {("Secret", manifest["spec"]["target"]["name"]) for manifest in _of(manifests, "ExternalSecret")}
    for name, pod in _pods(manifests):
        for container in _containers(pod):
            for source in container.get("envFrom", []):
                for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if key in source and (kind, source[key]["name"]) not in there:
                        yield f"{name} reads {kind} {source[key]['name']}, which does not exist"
    labels = [manifest["spec"]["template"]["metadata"]["labels"] for manifest in _of(manifests, "Deployment")]
    for service in _of(manifests, "Service"):
        if not any(service["spec"]["selector"].items() <= given.items() for given in labels):
            yield f"{_name(service)} selects no pods"
    for scaler in (*_of(manifests, "HorizontalPodAutoscaler"), *_of(manifests, "ScaledObject")):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in there:
            yield f"{_name(scaler)} has no target"
        for manifest in _of(manifests, "Deployment"):
            if manifest["metadata"]["name"] == target["name"] and "replicas" in manifest["spec"]:
                yield f"{_name(manifest)} sets replicas, which {_name(scaler)} manages"
        for trigger in scaler["spec"].get("triggers", []):
            host = re.match(r"http://([\w-]+)\.([\w-]+)\.svc", trigger["metadata"].get("url", ""))
            if host and (("Service", host[1]) not in there or host[2] != scaler["metadata"]["namespace"]):
                yield f"{_name(scaler)} queries {host[0]}, which does not exist"


POLICIES: Sequence[Policy] = (
    api_knows_every_field,
    pods_are_restricted,
    everything_has_limits,
    images_are_pinned,
    no_secret_in_the_open,
    deployments_can_be_watched_and_drained,
    networks_are_closed,
    accounts_may_do_little,
    namespace_is_guarded,
    what_is_named_is_there,
)


def broken(manifests: Sequence[Manifest]) -> list[str]:
    """A line for each thing that breaks a policy."""
    return [f"{policy.__name__}: {line}" for policy in POLICIES for line in policy(manifests)]


def environment(overlay: str) -> list[Manifest]:
    """All that runs in an environment: the overlay, and the job that a flow run becomes in it."""
    manifests = render(overlay)
    deployment = next(iter(_of(manifests, "Deployment")))
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    namespace = deployment["metadata"]["namespace"]
    return [*manifests, job(image=image, namespace=namespace)]


def main() -> int:
    """Hold every environment against the policies."""
    lines = [f"{overlay}: {line}" for overlay in OVERLAYS for line in broken(environment(overlay))]
    sys.stdout.write("\n".join(lines or [f"{len(POLICIES)} policies hold in {', '.join(OVERLAYS)}"]) + "\n")
    return 1 if lines else 0


def _name(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata.get('name') or metadata.get('generateName')}"


def _of(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _pods(manifests: Sequence[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            yield _name(manifest), manifest["spec"]["template"]["spec"]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


if __name__ == "__main__":
    sys.exit(main())
