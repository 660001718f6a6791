"""Resume the flow run that waits for a decision, once it is answered on the command line."""

from __future__ import annotations

from flows.cli.terminal import prepare
from flows.state.decisions import Decision


def resume(decision: Decision) -> str:
    """What became of the flow run that asked; without its server, the next run takes the answer."""
    try:
        prepare()
        from flows.tasks.suspending import resume_run

        resumed = resume_run(decision)
    except Exception as problem:
        return f"its flow run could not be resumed ({type(problem).__name__}); the next run takes the answer"
    return "its flow run goes on" if resumed else "its flow run no longer waits; the next run takes the answer"
