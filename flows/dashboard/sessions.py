"""Who is logged in: sessions in the memory of this process, by a cookie that says nothing.

A new session begins with each login, so a cookie that somebody else has set is worth nothing afterwards.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.dashboard.people import Person

#: Seconds: a working day, and a long lunch.
LIFETIME, IDLE = 12 * 3600.0, 2 * 3600.0
_MOST = 1_000
#: Attempts to log in within a minute, per name.
_ATTEMPTS, _WITHIN = 5, 60.0


@dataclass(slots=True)
class Session:
    """Somebody's login, and the token that each of their forms carries."""

    person: Person
    csrf: str
    began: float
    seen: float


@dataclass(slots=True)
class Sessions:
    """All sessions. `clock` is in seconds; another is for tests."""

    clock: Callable[[], float] = time.monotonic
    _open: OrderedDict[str, Session] = field(default_factory=OrderedDict, init=False)
    _failed: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict, init=False)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), init=False)

    def begin(self, person: Person) -> str:
        """A new session; returns its cookie. Only a hash of it is kept."""
        cookie, now = secrets.token_urlsafe(32), self.clock()
        self._open[_hashed(cookie)] = Session(person, secrets.token_urlsafe(32), now, now)
        while len(self._open) > _MOST:
            self._open.popitem(last=False)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie, unless it is over."""
        session, now = self._open.get(_hashed(cookie)), self.clock()
        if session is None:
            return None
        if now - session.began > LIFETIME or now - session.seen > IDLE:
            self.end(cookie)
            return None
        session.seen = now
        return session

    def end(self, cookie: str) -> None:
        """Log out."""
        self._open.pop(_hashed(cookie), None)

    def signed(self, text: str) -> str:
        """A token for forms of those who have no session here: before the login, and behind a proxy."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def may_try(self, name: str) -> bool:
        """Whether another attempt to log in by that name is allowed now."""
        failed = self._failed.get(name)
        while failed and self.clock() - failed[0] > _WITHIN:
            failed.popleft()
        return not failed or len(failed) < _ATTEMPTS

    def note_failure(self, name: str) -> None:
        """An attempt has failed."""
        self._failed.setdefault(name, deque()).append(self.clock())
        self._failed.move_to_end(name)
        while len(self._failed) > _MOST:
            self._failed.popitem(last=False)


def _hashed(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
