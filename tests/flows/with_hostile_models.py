"""`python -m tests.flows.with_hostile_models transform`: models that want its secrets."""

import os
from pathlib import Path

from flows.tasks import builds


def main() -> None:
    """Put the project of HOSTILE_PROJECT in the place of ours, then do as `medallion` does."""
    builds.DBT_PROJECT = Path(os.environ["HOSTILE_PROJECT"])  # type: ignore[attr-defined]
    from flows.cli.app import main as medallion

    medallion()


if __name__ == "__main__":
    main()
