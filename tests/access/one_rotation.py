"""`python -m tests.access.one_rotation HOME`: a rotation of the embedded stack in a process that may die."""

import sys
from pathlib import Path

from infra.local.home import Home
from infra.local.stack import rotate


def main() -> None:
    """Rotate the loader of the stack in the folder that the first argument names."""
    rotate("loader", home=Home(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
