"""Several keys of one API, each with a rate limit of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from flows.kinds.api.declared.tokens import SeveralKeys
from flows.kinds.api.http.failure import retry_after
from flows.kinds.api.http.quota import pause_asked
from flows.kinds.api.http.signer import Outgoing, place

_LIMITED = frozenset({403, 429, 503})
# Without Retry-After: the reader's own growing pauses follow when all keys are used up.
_UNSAID_SECONDS = 1.0
# They speak of one key only.
_QUOTA = ("ratelimit", "x-ratelimit", "x-rate-limit", "backoff", "x-shopify-shop-api-call-limit")


@dataclass(slots=True)
class _Turns:
    """Whose turn it is, and until when keys are left out. Shared by all reads of this process."""

    free_at: list[float]
    next: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> int:
        """The next key that is free, or the one that is free first."""
        with self.lock:
            now, count = time.monotonic(), len(self.free_at)
            order = [(self.next + step) % count for step in range(count)]
            chosen = next((one for one in order if self.free_at[one] <= now), None)
            if chosen is None:
                chosen = min(order, key=lambda one: self.free_at[one])
            self.next = (chosen + 1) % count
            return chosen

    def hold(self, key: int, seconds: float) -> float:
        """Leave a key out; returns the seconds until any key is free."""
        with self.lock:
            self.free_at[key] = max(self.free_at[key], time.monotonic() + seconds)
            return max(0.0, min(self.free_at) - time.monotonic())


_turns: dict[str, _Turns] = {}
_turns_lock = threading.Lock()


class SeveralKeysSigner:
    """Signs with the key whose turn it is."""

    def __init__(self, auth: SeveralKeys, keys: Sequence[str]) -> None:
        self._sent_as, self._keys = auth.sent_as, keys
        identity = hashlib.sha256("\0".join(keys).encode()).hexdigest()
        with _turns_lock:
            self._turns = _turns.setdefault(identity, _Turns([0.0] * len(keys)))

    async def sign(self, request: Outgoing) -> None:
        """Add the key."""
        chosen = self._turns.take()
        request.used = str(chosen)
        place(self._sent_as, request, self._keys[chosen])

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """With another key, if this one's limit is used up and another's is not."""
        headers, chosen = response.headers, int(request.used)
        told = retry_after(headers)
        limited = response.status_code == 429 or (response.status_code in _LIMITED and told is not None)
        asked = max(told or 0.0, pause_asked(headers)) if limited or response.is_success else 0.0
        pause = asked or (_UNSAID_SECONDS if limited else 0.0)
        until_free = self._turns.hold(chosen, pause) if pause else 0.0
        for name in [name for name in headers if name.lower().startswith(_QUOTA) or name.lower().endswith("after-ms")]:
            del headers[name]
        if limited and until_free > 0 and told is not None:
            headers["Retry-After"] = f"{until_free:.3f}"
        elif until_free > 0 and response.is_success:
            headers["Backoff"] = f"{until_free:.3f}"  # until a key is free
        return limited and until_free == 0.0

    async def aclose(self) -> None:
        """Nothing to close."""
