"""PrefectDbtRunner that keeps the exceptions of failed nodes, stops on any signal, and reuses settings and storage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dbt.task.runnable import GraphRunnableTask
from prefect.context import FlowRunContext, SettingsContext
from prefect_dbt import PrefectDbtRunner

from flows.models.build_failures import Heard


class NodeRunner(PrefectDbtRunner):  # type: ignore[misc]  # the package ships without types
    """Runs dbt with a Prefect task run per node, like its base.

    For each node and log line the base rebuilds settings and result storage from their serialised form. Settings are
    read from environment, profiles and pyproject.toml: on 71 nodes that was 4 of 19 seconds of CPU time. Storage is a
    block, and to look up a block's class Prefect imports every installed collection: 2.6 of 42 seconds. Here both are
    reused. If a later version no longer calls this method, only that gain is lost.

    `heard` has the exceptions that dbt encountered.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.heard = Heard()

    def invoke(self, args: list[str], **options: Any) -> Any:
        """Like its base, but raises the original exception, where the base raises a ValueError that quotes it."""
        self.heard = Heard()
        try:
            with _ended_by_any_stop():
                return super().invoke(args, **options)
        except ValueError:
            if (ended_by := self.heard.ended_by) is None:
                raise
            stop = ended_by.__cause__ if isinstance(ended_by, KeyboardInterrupt) else None
            raise (stop or ended_by) from None

    def _create_unified_callback(
        self, task_state: Any, log_level: Any, context: dict[str, Any], **options: Any
    ) -> Callable[[Any], None]:
        in_force, run = SettingsContext.get(), FlowRunContext.get()
        if in_force is not None:
            context = {**context, "settings_context": {"profile": in_force.profile, "settings": in_force.settings}}
        if run is not None and context.get("flow_run_context"):
            kept = {**context["flow_run_context"], "result_store": run.result_store}
            context = {**context, "flow_run_context": kept}
        callback: Callable[[Any], None] = super()._create_unified_callback(task_state, log_level, context, **options)
        heard = self.heard

        def hear_and_tell(event: Any) -> None:
            heard.hear(event)  # here, while dbt still handles the exception: the base handles events in a thread
            callback(event)

        return hear_and_tell


@contextmanager
def _ended_by_any_stop() -> Iterator[None]:
    """Make dbt cancel its queries on any stop, as on Ctrl-C.

    SIGTERM becomes a Prefect exception that dbt does not know: its threads continued their queries, and the process
    waited for them until it was killed.
    """
    run_queue = GraphRunnableTask.run_queue

    def ending(task: Any, pool: Any) -> None:
        try:
            run_queue(task, pool)
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as stop:
            raise KeyboardInterrupt from stop

    GraphRunnableTask.run_queue = ending  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        GraphRunnableTask.run_queue = run_queue  # type: ignore[method-assign]
