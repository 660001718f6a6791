"""Several keys of one API, each with a rate limit of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.tokens import SeveralKeys
from flows.kinds.api.http.failure import key_variable, retry_after
from flows.kinds.api.http.quota import pause_asked
from flows.kinds.api.http.signer import Outgoing, place
from flows.values.connection import ApiConnection

_LIMITED = frozenset({403, 429, 503})
# Without Retry-After: the reader's own growing pauses follow when all keys are used up.
_UNSAID_SECONDS = 1.0
# They speak of one key only.
_QUOTA = ("ratelimit", "x-ratelimit", "x-rate-limit", "backoff", "x-shopify-shop-api-call-limit")


_REJECTED = frozenset({401, 403})
# A key that the API rejects is tried again after this time: it may have been enabled again.
_ASIDE_SECONDS = 3600.0


@dataclass(slots=True)
class _Aside:
    """A rejected key: until when it is not used, by which status, and whether a load has reported it."""

    until: float
    status: int
    reported: bool = False


@dataclass(slots=True)
class _Turns:
    """Whose turn it is, and until when keys are left out. Shared by all reads of this process."""

    free_at: list[float]
    next: int = 0
    aside: dict[int, _Aside] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, but: Sequence[int] = ()) -> int:
        """The next key that is free, or the one that is free first; `but` none of these, if there is another."""
        with self.lock:
            now, count = time.monotonic(), len(self.free_at)
            order = [(self.next + step) % count for step in range(count)]
            usable = [one for one in order if self._is_accepted(one)] or order
            usable = [one for one in usable if one not in but] or usable
            chosen = next((one for one in usable if self.free_at[one] <= now), None)
            if chosen is None:
                chosen = min(usable, key=lambda one: self.free_at[one])
            self.next = (chosen + 1) % count
            return chosen

    def hold(self, key: int, seconds: float) -> float:
        """Leave a key out; returns the seconds until any key is free."""
        with self.lock:
            self.free_at[key] = max(self.free_at[key], time.monotonic() + seconds)
            accepted = [at for one, at in enumerate(self.free_at) if self._is_accepted(one)] or self.free_at
            return max(0.0, min(accepted) - time.monotonic())

    def reject(self, key: int, status: int) -> None:
        """Put a key aside. If none is left, all are tried again by the next request."""
        with self.lock:
            known = self.aside.get(key)
            self.aside[key] = _Aside(time.monotonic() + _ASIDE_SECONDS, status, known is not None and known.reported)
            if not any(map(self._is_accepted, range(len(self.free_at)))):
                self.aside.clear()

    def left(self, but: Sequence[int]) -> bool:
        """Whether there is a key that is not rejected, `but` none of these."""
        with self.lock:
            return any(self._is_accepted(one) for one in range(len(self.free_at)) if one not in but)

    def unreported(self) -> list[tuple[int, int]]:
        """Keys that are aside and have not been reported, and by which status. They are, now."""
        with self.lock:
            found = [(key, aside.status) for key, aside in self.aside.items() if not aside.reported]
            for aside in self.aside.values():
                aside.reported = True
            return sorted(found)

    def _is_accepted(self, key: int) -> bool:
        return key not in self.aside or self.aside[key].until <= time.monotonic()


_turns: dict[str, _Turns] = {}
_turns_lock = threading.Lock()


def _turns_of(keys: Sequence[str]) -> _Turns:
    identity = hashlib.sha256("\0".join(keys).encode()).hexdigest()
    with _turns_lock:
        return _turns.setdefault(identity, _Turns([0.0] * len(keys)))


def rejected_keys(api: Api, connection: ApiConnection) -> str | None:
    """What a load says of keys that the API rejects, once each: their places among the keys, never their values."""
    if not isinstance(api.auth, SeveralKeys):
        return None
    keys = (connection.key or "").split()
    found = _turns_of(keys).unreported()
    if not found:
        return None
    named = ", ".join(f"{place + 1} ({status})" for place, status in found)
    return (
        f"of the {len(keys)} keys in {key_variable(api)} (or the block source-{api.connection}), the API rejects "
        f"number {named}, counted from 1; the others were used, replace it"
    )


class SeveralKeysSigner:
    """Signs with the key whose turn it is. A key that the API rejects is put aside, and the others are used."""

    def __init__(self, auth: SeveralKeys, keys: Sequence[str]) -> None:
        self._sent_as, self._keys = auth.sent_as, keys
        self._turns = _turns_of(keys)

    async def sign(self, request: Outgoing) -> None:
        """Add the key."""
        chosen = self._turns.take(request.refused)
        request.used = str(chosen)
        place(self._sent_as, request, self._keys[chosen])

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """With another key, if this one is rejected, or its limit is used up and another's is not."""
        headers, chosen = response.headers, int(request.used)
        told = retry_after(headers)
        limited = response.status_code == 429 or (response.status_code in _LIMITED and told is not None)
        if response.status_code in _REJECTED and not limited:
            return self._with_another(request, chosen, response.status_code)
        if response.is_success:
            # What one key may read and another may not is a matter of the key.
            for refused in request.refused:
                self._turns.reject(refused, 403)
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

    def _with_another(self, request: Outgoing, chosen: int, status: int) -> bool:
        if status == 401:
            is_last = not self._turns.left((*request.refused, chosen))
            self._turns.reject(chosen, status)
            return not is_last
        request.refused = (*request.refused, chosen)
        return self._turns.left(request.refused)

    async def aclose(self) -> None:
        """Nothing to close."""
