"""Waits for what happens by itself, and fails where it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], seconds: float = 120, otherwise: Callable[[], object] = lambda: "") -> Found:
    """What `look` finds once it finds something.

    Raises:
        AssertionError: it found nothing for so many seconds; with what `otherwise` has to say then.
    """
    found = looked_for(look, seconds)
    assert found, f"it did not come true within {seconds:.0f} s: {otherwise()}"
    return found


def looked_for(look: Callable[[], Found], seconds: float) -> Found:
    """The same, for what is checked later: what it found last, also where that is nothing."""
    begun = time.monotonic()
    pause = 0.02
    while not (found := look()) and (waited := time.monotonic() - begun) < seconds:
        time.sleep(pause)
        # Who asks a server ten times a second for minutes keeps it from what is waited for: what took a minute may be
        # seen two seconds late, and nothing later than three.
        pause = min(pause * 1.3, max(0.5, waited / 30), 3)
    return found
