"""`python -m tests.privacy.one_erasure 5`: a person's erasure in a process that may die."""

import asyncio
import sys

from flows.privacy.erase import erase, find_subject


def main() -> None:
    """Erase the household that the first argument names."""
    asyncio.run(erase(find_subject("household"), sys.argv[1], despite_source=True))


if __name__ == "__main__":
    main()
