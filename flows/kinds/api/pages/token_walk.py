"""Pagination by what a page says of the next one: a link, a URL, a token."""

from __future__ import annotations

import httpx

from flows.kinds.api.declared.pagination import Cursor, LinkHeader, NextHeader, NextUrl
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.link_header import linked_page, names_pages, require_origin
from flows.kinds.api.http.request import PageRequest, Value
from flows.kinds.api.pages.values import token_at, told, unfinished
from flows.kinds.api.pages.walk import Walk
from flows.values.json_path import parse_path


class TokenWalk(Walk):
    """A walk from link to link."""

    def after(self, request: PageRequest, answer: Answer) -> PageRequest | None:
        """The request for the next page, by the pagination style."""
        match self.pagination:
            case LinkHeader(rel=rel):
                links = answer.headers.get_list("link")
                url = linked_page(rel, links, answer.url, self.of.base)
                self.is_proven = names_pages(links)
                return None if url is None else request.at(url)
            case NextUrl(at=at):
                self.is_proven = answer.document.has(parse_path(at))
                target = told(answer.document, at)
                return self._at(request, answer, target if self._goes_on(answer, is_named=target is not None) else None)
            case NextHeader(header=header, parameter=parameter, last=last):
                self.is_proven = header in answer.headers
                value = answer.headers.get(header, "").strip() or None
                value = None if value == last else value
                if parameter is None:
                    return self._at(request, answer, value)
                return None if value is None else self.first.having([(parameter, value)])
            case Cursor(parameter=parameter):
                token = self._token(answer)
                goes_on = self._goes_on(answer, is_named=token is not None)
                return None if token is None or not goes_on else self.first.having([(parameter, token)])
        return super().after(request, answer)

    def _token(self, answer: Answer) -> Value | None:
        assert isinstance(self.pagination, Cursor)
        at = self.pagination.at
        token = token_at(answer.document, at, in_body=self.first.body is not None)
        self.is_proven = answer.document.has(parse_path(at))
        if self.pagination.is_of_a_record:
            # Without records there is none, which ends the list; with records there must be one.
            self.is_proven = token is None
            if answer.listed and token is None:
                raise unfinished(f"the last record has no value for the next page at {at!r}")
        return token

    def _goes_on(self, answer: Answer, *, is_named: bool) -> bool:
        """Whether there is a next page by `more` and `last`; `is_named`: there is a token or URL of one.

        Raises:
            AttemptFailed: both contradict each other.
        """
        style = self.pagination
        assert isinstance(style, Cursor | NextUrl)
        if not (style.more or style.last):
            return is_named
        goes_on = self.says_more(answer)
        self.is_proven = goes_on is False
        where = style.more or style.last
        if goes_on and not is_named:
            says = "true" if style.more else "false"
            raise unfinished(f"{where!r} is {says}, and there is no token for the next page at {style.at!r}")
        if goes_on is None and is_named and not self.shows_next:
            raise unfinished(f"there is a token for the next page at {style.at!r}, and nothing at {where!r}")
        # Some APIs omit what is false: that it was true on an earlier page shows that the path is right.
        return bool(goes_on)

    def _at(self, request: PageRequest, answer: Answer, target: str | int | None) -> PageRequest | None:
        if target is None:
            return None
        try:
            url = answer.url.join(str(target)).copy_with(fragment=None)
        except (httpx.InvalidURL, ValueError):
            url = None
        if url is None:
            raise AttemptFailed(
                "the value for the next page is not a URL",
                "check the declared pagination against a response; nothing was skipped",
            )
        require_origin(url, self.of.base, "the link to the next page")
        return request.at(url)
