"""Detection of endless pagination."""

from collections.abc import Sequence
from hashlib import blake2b

from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.request import PageRequest
from flows.values.errors import ListUnfinished

# An API that filters its pages may have a thousand empty ones in a row; one that ignores its parameter has no end.
_MORE_IF_DECLARED = 50


class Trail:
    """The pages read so far: distinguishes a circular or stuck list from a long one."""

    def __init__(self, first: PageRequest, max_idle_pages: int, *, may_be_empty: bool = False) -> None:
        self._most_empty = max_idle_pages * (_MORE_IF_DECLARED if may_be_empty else 1)
        self._max_idle_pages = max_idle_pages
        self._visited = {_mark(*first.identity)}
        self._pages = set[bytes]()
        self._empty = self._repeated = self._back = 0

    def follow(self, request: PageRequest, records: Sequence[bytes]) -> None:
        """Record that a page had `records` and that `request` is sent next.

        Raises:
            AttemptFailed: it was sent before, or too many pages had no new record.
        """
        address = _mark(*request.identity)
        if address in self._visited:
            raise AttemptFailed(
                "the link to the next page points to a page already read",
                "pagination would never end; report it to the API's operator, or declare another pagination",
            )
        self._visited.add(address)
        self.page(records)

    def page(self, records: Sequence[bytes]) -> None:
        """Record that a page had `records`, and that another one follows.

        Raises:
            AttemptFailed: too many pages had no new record.
        """
        if not records:
            self._empty += 1
        else:
            self._empty = 0
            # First and last record identify a page: records are keyed, so no two pages share one.
            page = _page(records)
            self._repeated += page in self._pages
            self._pages.add(page)
        if self._empty >= self._most_empty + self._back or self._repeated >= self._max_idle_pages + self._back:
            how = f"{self._empty} consecutive pages had no record" if self._empty else "pages repeat"
            bound = self._most_empty if self._empty else self._max_idle_pages
            raise AttemptFailed(
                f"{how}: {bound} pages had no new record, and the API still names a next page",
                "the API seems to ignore its own page parameter: check params and pagination",
            )

    def has(self, records: Sequence[bytes]) -> bool:
        """Whether a page with these records has been read, or one without any."""
        return not records or _page(records) in self._pages

    def back(self, pages: int, read: int) -> None:
        """Record that so many pages are read again, of `read`.

        Raises:
            AttemptFailed: the list has shifted so often that reading might never end.
        """
        self._back += pages
        if self._back > max(self._max_idle_pages, read):
            raise AttemptFailed(
                f"the list shifts while it is read, or its total swings: {self._back} pages would be read again, "
                f"and the bound is {max(self._max_idle_pages, read)}",
                "run again when the list is quiet; declare a stable order in params, and no total= that is an estimate",
                kind=ListUnfinished,
            )


def _page(records: Sequence[bytes]) -> bytes:
    return _mark(str(len(records)).encode(), *records[:1], *records[-1:])


def _mark(*parts: bytes) -> bytes:
    # 16 bytes per page instead of its URL: a million pages stay below 100 MB.
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()
