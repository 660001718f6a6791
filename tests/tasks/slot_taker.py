"""A run of many tables in a process of its own: `python -m tests.tasks.slot_taker SOURCE TABLES SECONDS [unlimited]`.

Prints `ready`, waits for a line, then prints when each table began and ended, by the clock that all processes share.
With `unlimited` it passes its slots on without asking the server: the control that breaks the limit.
"""

import asyncio
import sys
import time

from flows.tasks import slots
from flows.tasks.leases import Limits, Slot

AT_ONCE = 4


def say(line: str) -> None:
    """To whoever started this process, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _granted(self: Limits) -> Slot:
    return Slot(None)


async def _others() -> bool:
    return True


async def main(source: str, tables: int, seconds: float) -> None:
    """Load the tables, `AT_ONCE` at a time, as a flow does."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def load() -> None:
        async with turns, slots.slots(source):
            began = time.monotonic()
            await asyncio.sleep(seconds)
            say(f"{began} {time.monotonic()}")

    async with slots.shared_slots(source, _others):
        await asyncio.gather(*(load() for _ in range(tables)))


if __name__ == "__main__":
    if "unlimited" in sys.argv:
        Limits.acquire = _granted  # type: ignore[method-assign]
    slots.TURN_SECONDS = 0.5
    say("ready")
    sys.stdin.readline()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
