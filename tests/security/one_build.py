"""`python -m tests.security.one_build URL_FILE PROJECT TARGET`: `run_dbt` under the most open umask.

Prints JSON: the problem, each node's status and message, and every value that the environment had meanwhile.
"""

import json
import os
import sys
import threading
from pathlib import Path

import dbt.adapters.postgres  # noqa: F401 - or every fork would import it

from flows.models.project import run_dbt


def main() -> None:
    """Build the project that the arguments name."""
    url, project, target = sys.argv[1:]
    over, environments = threading.Event(), set[str]()

    def look() -> None:
        while not over.wait(0.02):
            environments.update(os.environ.values())

    eyes = threading.Thread(target=look)
    eyes.start()
    os.umask(0)
    built = run_dbt(["build"], url=Path(url).read_text(), target=Path(target), project=Path(project))
    over.set()
    eyes.join()
    nodes = {node.unique_id: [node.status, node.message] for node in built.nodes}
    left = {"problem": built.problem, "nodes": nodes, "environment": sorted(environments), "umask": os.umask(0)}
    sys.stdout.write("\n" + json.dumps(left) + "\n")


if __name__ == "__main__":
    main()
