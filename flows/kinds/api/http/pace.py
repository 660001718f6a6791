"""The rate that we allow ourselves, and the pauses that an API asks all its readers for."""

import asyncio
import threading
import time

from flows.kinds.api.declared.api import Api


class Pace:
    """Hands out moments at least `1 / rate` seconds apart.

    Even spacing, with no burst after a pause: an API that counts per fixed window would see a burst of one second's
    worth on top of the next second's, twice the declared rate. Any window of t seconds holds at most rate * t + 1.
    Records are paid for after they came: the next request waits until their share of the window has passed.
    """

    def __init__(self, rate: float | None = None, record_rate: float | None = None) -> None:
        self._spacing = 1 / rate if rate else 0.0
        self._record_spacing = 1 / record_rate if record_rate else 0.0
        self._next = 0.0
        self._paid_until = 0.0
        self._held_until = 0.0
        # Endpoints of one API may be read by threads with an event loop each, where an asyncio lock does not work.
        self._lock = threading.Lock()

    def reserve(self, now: float) -> float:
        """Take the next free moment; returns the seconds from `now` until it comes."""
        with self._lock:
            moment = max(self._next, self._paid_until, now)
            self._next = moment + self._spacing
        return moment - now

    async def turn(self) -> None:
        """Wait for our turn."""
        wait = self.reserve(time.monotonic())
        if wait > 0:
            await asyncio.sleep(wait)

    def took(self, records: int) -> None:
        """So many records came."""
        if self._record_spacing:
            with self._lock:
                self._paid_until = max(self._paid_until, time.monotonic()) + records * self._record_spacing

    def hold(self, seconds: float) -> None:
        """The API asks for a pause: no reader sends anything before it is over."""
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)

    def held(self) -> float:
        """Seconds until the pause is over."""
        return max(0.0, self._held_until - time.monotonic())


_paces: dict[object, Pace] = {}
_paces_lock = threading.Lock()


def pace_of(api: Api, base_url: str) -> Pace:
    """The pace shared by all reads of this API in this process.

    Across processes the orchestrator's limits do the same.
    """
    rate = api.pace
    with _paces_lock:
        return _paces.setdefault(
            (api.connection, base_url, rate),
            Pace(
                rate.requests / rate.seconds if rate and rate.requests else None,
                rate.records / rate.seconds if rate and rate.records else None,
            ),
        )
