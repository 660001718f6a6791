"""Deploy the project this code is in: `python -m infra.gameday.deploying`, in the world's copy of it.

Nothing is started again after a crash: the next run is due in seconds, and its alert would stay for 15 minutes.
"""

from deployments.deploy import Choice, apply, prospect, session
from deployments.environments import Environment
from infra.gameday.names import ENVIRONMENT

GAME = Environment(ENVIRONMENT, work_pools=("local",), active=True, attempts=1)


def main() -> None:
    """Deploy, without a question."""
    with session() as server:
        apply(server, prospect(server, Choice(GAME, version="1")), lambda _: None)


if __name__ == "__main__":
    main()
