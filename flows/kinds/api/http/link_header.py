"""The Link header, and the check whether a link may be followed."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from flows.kinds.api.http.failure import AttemptFailed

_SPACE = " \t"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a Link header: its target as written, its relations in lower case, and its anchor if it has one."""

    target: str
    relations: tuple[str, ...]
    anchor: str | None = None


class MalformedLink(ValueError):
    """A malformed Link header. Treating it as the end of the list would lose every later page."""


def parse_links(value: str) -> list[Link]:
    """Parse one Link header field (RFC 8288, appendix B.2), which may contain several links.

        </v1/orders?after=b>; rel="next", </v1/orders>; rel="first index"
        → [Link("/v1/orders?after=b", ("next",)), Link("/v1/orders", ("first", "index"))]

    Raises:
        MalformedLink: if the RFC's algorithm would stop and keep what it has so far.
    """
    links = []
    at = _skip(value, 0, _SPACE + ",")
    while at < len(value):
        if value[at] != "<":
            raise MalformedLink(f"a link must start with <, at character {at}")
        end = value.find(">", at)
        if end < 0:
            raise MalformedLink(f"the < at character {at} is never closed")
        target = value[at + 1 : end].strip()
        parameters, at = _parameters(value, end + 1)
        if at < len(value) and value[at] != ",":
            raise MalformedLink(f"a comma is missing at character {at}")
        links.append(Link(target, tuple(parameters.get("rel", "").lower().split()), parameters.get("anchor")))
        at = _skip(value, at, _SPACE + ",")
    return links


def linked_page(rel: str, headers: Sequence[str], page: httpx.URL, base: httpx.URL) -> httpx.URL | None:
    """The URL of the page after `page` by its link `rel`, or None at the end.

    `headers` are the response's Link fields. Relative targets are resolved against `page`, the URL of the response.
    A link with another anchor is about another document and is ignored (RFC 8288, section 3.2).

    Raises:
        AttemptFailed: the header is malformed, names several next pages, or leads to another origin than `base`.
    """
    relation = rel.lower()
    try:
        found = {
            without_fragment(page.join(link.target))
            for header in headers
            for link in parse_links(header)
            if relation in link.relations and _speaks_of(page, link)
        }
        problem = ""
    except (MalformedLink, httpx.InvalidURL, ValueError) as error:
        # Only our own message is repeated: others quote the URL.
        problem = str(error) if isinstance(error, MalformedLink) else "a target is not a URL"
    if problem:
        raise AttemptFailed(
            f"the Link header is malformed: {problem}",
            "report the header to the API's operator; nothing was skipped",
        )
    if len(found) > 1:
        raise AttemptFailed(
            f"the Link header names {len(found)} different pages as {relation!r}",
            "check rel= of the declared LinkHeader; nothing was skipped",
        )
    for url in found:
        require_origin(url, base, f"the link to the {relation} page")
        return url
    return None


def require_origin(url: httpx.URL, base: httpx.URL, what: str) -> None:
    """Refuse a URL with another scheme, host or port than `base`, or with a user.

    Raises:
        AttemptFailed: naming both origins, which contain no secret.
    """
    if url.userinfo or origin(url) != origin(base):
        there = f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port is not None else "")
        here = f"{base.scheme}://{base.host}" + (f":{base.port}" if base.port is not None else "")
        raise AttemptFailed(
            f"{what} leads to {there}, and this API is {here}: credentials are not sent to another origin",
            "if both are the same API, configure the URL it names as base URL (http and https are two origins); "
            "an API behind a proxy may need its public URL configured",
        )


def names_pages(headers: Sequence[str]) -> bool:
    """Whether the Link fields name pages of a list at all, so that a missing next one is the API's word.

    Raises:
        MalformedLink: never after `linked_page` of the same fields.
    """
    relations = {"first", "last", "prev", "previous", "self"}
    return any(relations & set(link.relations) for field in headers for link in parse_links(field))


def origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """Scheme, host and port, with an explicit default port: they must be equal for credentials to be sent."""
    return url.scheme, url.raw_host.lower(), url.port or {"http": 80, "https": 443}.get(url.scheme)


def _parameters(value: str, at: int) -> tuple[dict[str, str], int]:
    # Appendix B.3. If a parameter occurs twice, the first counts, as section 3.3 requires for rel.
    found: dict[str, str] = {}
    at = _skip(value, at, _SPACE)
    while at < len(value) and value[at] == ";":
        at = _skip(value, at + 1, _SPACE)
        start = at
        while at < len(value) and value[at] not in _SPACE + "=;,":
            at += 1
        name = value[start:at].lower()
        at = _skip(value, at, _SPACE)
        text = ""
        if at < len(value) and value[at] == "=":
            at = _skip(value, at + 1, _SPACE)
            text, at = _quoted(value, at) if value[at : at + 1] == '"' else _token(value, at)
        if name:
            found.setdefault(name, text)
        at = _skip(value, at, _SPACE)
    return found, at


def _quoted(value: str, at: int) -> tuple[str, int]:
    text: list[str] = []
    start = at
    at += 1
    while at < len(value):
        if value[at] == '"':
            return "".join(text), at + 1
        if value[at] == "\\":
            at += 1
        text.append(value[at : at + 1])
        at += 1
    raise MalformedLink(f"the quote at character {start} is never closed")


def _token(value: str, at: int) -> tuple[str, int]:
    start = at
    while at < len(value) and value[at] not in ";,":
        at += 1
    return value[start:at].strip(_SPACE), at


def _skip(value: str, at: int, characters: str) -> int:
    while at < len(value) and value[at] in characters:
        at += 1
    return at


def _speaks_of(page: httpx.URL, link: Link) -> bool:
    return link.anchor is None or without_fragment(page.join(link.anchor)) == without_fragment(page)


def without_fragment(url: httpx.URL) -> httpx.URL:
    """The URL as it is requested."""
    return url.copy_with(fragment=None)
