"""Resume the flow run that waits for a decision, once it is answered on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from flows.cli.terminal import prepare
from flows.state.decisions import Decision


def resume(asked: Sequence[Decision]) -> str:
    """What became of the flow run that asked these; without its server, the next run takes the answer."""
    if waiting := [str(one.decision_id) for one in asked if one.status == "open"]:
        return f"its flow run also waits for decision {', '.join(waiting)}"
    try:
        prepare()
        from flows.tasks.suspending import resume_run

        resumed = resume_run(asked)
    except Exception as problem:
        return f"its flow run could not be resumed ({type(problem).__name__}); the next run takes the answer"
    return "its flow run goes on" if resumed else "its flow run no longer waits; the next run takes the answer"
