"""`python -m tests.flows.with_hostile_models transform`: models that want its secrets."""

import os
from pathlib import Path

from flows import dbt_build


def main() -> None:
    """Put the project of HOSTILE_PROJECT in the place of ours, then do as `medallion` does."""
    dbt_build.DBT_PROJECT = Path(os.environ["HOSTILE_PROJECT"])  # type: ignore[attr-defined]
    from flows.cli import main as medallion

    medallion()


if __name__ == "__main__":
    main()
