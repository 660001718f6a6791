"""The rate that we allow ourselves, whatever the API would bear."""

import asyncio
import threading
import time

from flows.spec.api import Api


class Pace:
    """Hands out moments at least `1 / rate` seconds apart.

    Even spacing, with no burst after a pause: an API that counts per fixed window would see a burst of one second's
    worth on top of the next second's, twice the declared rate. Any window of t seconds holds at most rate * t + 1.
    """

    def __init__(self, rate: float) -> None:
        self._spacing = 1 / rate
        self._next = 0.0
        # Endpoints of one API may be read by threads with an event loop each, where an asyncio lock does not work.
        self._lock = threading.Lock()

    def reserve(self, now: float) -> float:
        """Take the next free moment; returns the seconds from `now` until it comes."""
        with self._lock:
            moment = max(self._next, now)
            self._next = moment + self._spacing
        return moment - now

    async def turn(self) -> None:
        """Wait for our turn."""
        wait = self.reserve(time.monotonic())
        if wait > 0:
            await asyncio.sleep(wait)


_paces: dict[tuple[str, float], Pace] = {}
_paces_lock = threading.Lock()


def pace_of(api: Api) -> Pace | None:
    """The pace shared by all reads of this API in this process; None where no rate is declared.

    Across processes the orchestrator's limits do the same.
    """
    if api.rate is None:
        return None
    with _paces_lock:
        return _paces.setdefault((api.connection, api.rate), Pace(api.rate))
