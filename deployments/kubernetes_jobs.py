"""The base job template of the Kubernetes work pool: what each flow run's job is made from.

python -m deployments.kubernetes_jobs --image registry.example.com/medallion:0.1.0 --namespace medallion-dev > jobs.json
prefect work-pool create kubernetes --type kubernetes --base-job-template jobs.json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parent / "kubernetes" / "base-job-template.json"


def base_job_template(*, image: str, namespace: str) -> dict[str, Any]:
    """The template with an environment's image and namespace as defaults; without them a deployment must name both."""
    template: dict[str, Any] = json.loads(TEMPLATE.read_text())
    variables = template["variables"]
    for name, value in {"image": image, "namespace": namespace}.items():
        variables["properties"][name]["default"] = value
        variables["required"].remove(name)
    return template


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the template as JSON."""
    parser = argparse.ArgumentParser(prog="python -m deployments.kubernetes_jobs", description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--namespace", required=True)
    given = parser.parse_args(arguments)
    sys.stdout.write(json.dumps(base_job_template(image=given.image, namespace=given.namespace), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
