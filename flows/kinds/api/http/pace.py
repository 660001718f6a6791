"""Our own rate limit, and pauses requested by the API for all readers."""

import asyncio
import threading
import time

from flows.kinds.api.declared.api import Api


class Pace:
    """Issues time slots at least `1 / rate` seconds apart.

    Even spacing, with no burst after a pause: an API that counts per fixed window would see a burst of one second's
    worth on top of the next second's, twice the declared rate. Any window of t seconds has at most rate * t + 1.
    Records are accounted for on arrival: the next request waits until their share of the window has passed.
    """

    def __init__(self, rate: float | None = None, record_rate: float | None = None) -> None:
        self._spacing = 1 / rate if rate else 0.0
        self._record_spacing = 1 / record_rate if record_rate else 0.0
        self._next = 0.0
        self._paid_until = 0.0
        self._held_until: dict[str, float] = {}
        # Endpoints of one API may be read by threads with separate event loops, so an asyncio lock does not work.
        self._lock = threading.Lock()

    def reserve(self, now: float) -> float:
        """Take the next free slot; returns the seconds from `now` until it."""
        with self._lock:
            moment = max(self._next, self._paid_until, now)
            self._next = moment + self._spacing
        return moment - now

    async def turn(self) -> None:
        """Wait for the next slot."""
        wait = self.reserve(time.monotonic())
        if wait > 0:
            await asyncio.sleep(wait)

    def took(self, records: int) -> None:
        """Account for received records."""
        if self._record_spacing:
            with self._lock:
                self._paid_until = max(self._paid_until, time.monotonic()) + records * self._record_spacing

    def hold(self, endpoint: str, seconds: float) -> None:
        """The API requests a pause: no reader of the endpoint sends anything before it is over.

        Quotas are often those of an endpoint. If it is the API's, the others learn it from their own responses.
        """
        with self._lock:
            until = time.monotonic() + seconds
            self._held_until[endpoint] = max(self._held_until.get(endpoint, 0.0), until)

    def held(self, endpoint: str) -> float:
        """Seconds until the endpoint's pause is over."""
        return max(0.0, self._held_until.get(endpoint, 0.0) - time.monotonic())


_paces: dict[object, Pace] = {}
_paces_lock = threading.Lock()


def pace_of(api: Api, base_url: str) -> Pace:
    """The pace shared by all reads of this API in this process.

    Across processes, Prefect's limits do the same.
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
