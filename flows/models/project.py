"""The dbt project, and running dbt on it in this process.

dbt has global state: one invocation at a time. Importing it takes 3 to 4 s, so it is imported on use.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.models.environment import confined
from flows.observe.redaction import redact
from flows.values.settings import PROJECT_ROOT

DBT_PROJECT = PROJECT_ROOT / "dbt_project"


@dataclass(frozen=True, slots=True)
class BuiltNode:
    """The result of one node. `status` as in dbt: success, pass, warn, error, fail, skipped, no-op."""

    unique_id: str
    status: str
    seconds: float
    message: str = ""
    failures: int | None = None
    relation: str | None = None
    compiled: str = field(default="", repr=False)

    @property
    def kind(self) -> str:
        """`model`, `test`, `unit_test`, `snapshot`, `seed`."""
        return self.unique_id.partition(".")[0]

    @property
    def name(self) -> str:
        """`household`, or the name of the test."""
        parts = self.unique_id.split(".")
        # test.medallion.household_keys_hold.1a2b3c; model.medallion.agg_daily_sales.v2
        return parts[2] if self.kind == "test" else ".".join(parts[2:])

    @property
    def ok(self) -> bool:
        """Whether it did not fail."""
        return self.status in {"success", "pass", "no-op", "warn", "partial success"}


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of dbt. `problem` is dbt's error if it could not start, for example a model that does not parse."""

    nodes: tuple[BuiltNode, ...] = ()
    listed: tuple[str, ...] = ()
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything was built and every test passed."""
        return not self.problem and all(node.ok for node in self.nodes)


def run_dbt(
    arguments: Sequence[str], *, url: str, target: Path, prefix: str = "", project: Path = DBT_PROJECT
) -> Invocation:
    """Run dbt with these arguments as the role of `url`; it builds into schemas that begin with `prefix`.

    Its messages are redacted: PostgreSQL quotes values of rows in them. No log file is written.
    """
    from dbt.cli.main import dbtRunner

    place = ["--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(target)]
    quiet = ["--log-level", "none", "--log-level-file", "none", "--quiet", "--no-print"]
    with confined(url, project=project, target=target, prefix=prefix), _interruptible():
        done = dbtRunner().invoke([*arguments, *place, *quiet])
    if isinstance(done.exception, KeyboardInterrupt | SystemExit):
        raise done.exception  # dbt has cancelled its queries; the caller still has to clean up
    if done.exception is not None:
        return Invocation(problem=redact(str(done.exception)).strip())
    if isinstance(done.result, list):
        return Invocation(listed=tuple(str(item) for item in done.result))
    results = getattr(done.result, "results", None) or []
    return Invocation(nodes=tuple(_built(result) for result in results))


def _built(result: Any) -> BuiltNode:
    return BuiltNode(
        unique_id=result.node.unique_id,
        status=str(result.status),
        seconds=float(result.execution_time),
        message=redact(str(result.message or "")).strip(),
        failures=result.failures,
        relation=getattr(result.node, "relation_name", None),
        compiled=getattr(result.node, "compiled_code", None) or "",
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C reaches dbt immediately. A running event loop would delay it until dbt had ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
