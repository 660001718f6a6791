"""The pages walked so far."""

from collections.abc import Sequence
from hashlib import blake2b

from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.request import PageRequest


class Trail:
    """The pages walked so far: tells a list that leads in circles, or nowhere, from a long one."""

    def __init__(self, first: PageRequest, max_idle_pages: int) -> None:
        self._max_idle_pages = max_idle_pages
        self._visited = {_mark(*first.identity)}
        self._last_page = b""
        self._idle = 0

    def follow(self, request: PageRequest, records: Sequence[bytes]) -> None:
        """Note that a page brought `records` and that `request` is sent next.

        Raises:
            AttemptFailed: it was sent before, or too many pages in a row brought nothing new.
        """
        address = _mark(*request.identity)
        if address in self._visited:
            raise AttemptFailed(
                "the link to the next page leads back to a page already read",
                "paging would never end; show it to who runs the API, or declare another pagination",
            )
        self._visited.add(address)
        # The ends tell a repeated page from another one: records are keyed, so no two pages share one.
        page = _mark(str(len(records)).encode(), *records[:1], *records[-1:])
        self._idle = self._idle + 1 if not records or page == self._last_page else 0
        self._last_page = page
        if self._idle >= self._max_idle_pages:
            raise AttemptFailed(
                f"{self._idle} pages in a row brought nothing new, and the API still names a next one",
                "the API seems to ignore its own page parameter: check params and pagination",
            )


def _mark(*parts: bytes) -> bytes:
    # 16 bytes a page instead of its address: a million pages stay below 100 MB.
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()
