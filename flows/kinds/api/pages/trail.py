"""Detection of endless pagination."""

from collections.abc import Sequence
from hashlib import blake2b

from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.request import PageRequest


class Trail:
    """The pages read so far: distinguishes a circular or stuck list from a long one."""

    def __init__(self, first: PageRequest, max_idle_pages: int) -> None:
        self._max_idle_pages = max_idle_pages
        self._visited = {_mark(*first.identity)}
        self._last_page = b""
        self._idle = 0

    def follow(self, request: PageRequest, records: Sequence[bytes]) -> None:
        """Record that a page had `records` and that `request` is sent next.

        Raises:
            AttemptFailed: it was sent before, or too many consecutive pages had no new record.
        """
        address = _mark(*request.identity)
        if address in self._visited:
            raise AttemptFailed(
                "the link to the next page points to a page already read",
                "pagination would never end; report it to the API's operator, or declare another pagination",
            )
        self._visited.add(address)
        # First and last record identify a page: records are keyed, so no two pages share one.
        page = _mark(str(len(records)).encode(), *records[:1], *records[-1:])
        self._idle = self._idle + 1 if not records or page == self._last_page else 0
        self._last_page = page
        if self._idle >= self._max_idle_pages:
            raise AttemptFailed(
                f"{self._idle} consecutive pages had no new record, and the API still names a next page",
                "the API seems to ignore its own page parameter: check params and pagination",
            )


def _mark(*parts: bytes) -> bytes:
    # 16 bytes per page instead of its URL: a million pages stay below 100 MB.
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()
