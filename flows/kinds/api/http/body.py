"""A JSON response, complete or an error.

httpx returns a body that was truncated by a closed connection or a cut gzip stream as if it were complete, and
decompresses without a limit. Here every end is verified: the length against Content-Length, gzip against its end
marker and checksum, and the decoded size against a cap while it grows.
"""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message

import httpx

from flows.kinds.api.http.failure import AttemptFailed
from flows.values.errors import SourceUnavailable

_GZIP = 16 + zlib.MAX_WBITS  # 16 makes zlib expect the gzip wrapper and its checksum
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Body:
    """A response's decoded bytes, the number of bytes received, and whether the protocol proved the end.

    `members` are those of its gzip stream, if it was one: another one may follow where the protocol shows no end.
    """

    content: bytes
    received_bytes: int
    end_proven: bool
    members: int = 0


async def read_body(
    response: httpx.Response, cap: int, *, any_media: bool = False, pieces: AsyncIterator[bytes] | None = None
) -> Body:
    """Read a streamed response to its proven end. `any_media`: also one that is not JSON by its content type.

    `pieces` are those of the response, if some have been read before.

    Raises:
        AttemptFailed: not JSON by its content type, truncated, corrupt, or larger than `cap` bytes decoded.
        httpx.HTTPError: the connection broke.
    """
    if not any_media:
        require_json(response.headers)
    declared = declared_length(response.headers)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    members, pieces = 0, response.aiter_raw() if pieces is None else pieces
    if encoding in ("identity", ""):
        if declared is not None and declared > cap:
            raise _too_large(cap)
        content, received = await _read_plain(pieces, cap)
    elif encoding in ("gzip", "x-gzip"):
        content, received, members = await _read_gzip(pieces, cap)
    else:
        raise AttemptFailed(
            f"the body is encoded as {encoding[:40]!r}, and only gzip was requested",
            "ask the operator of the API, or of the proxy in between, to honour Accept-Encoding",
        )
    # The HTTP/1.1 parser below also counts; transports of proxies or other versions may not.
    if declared is not None and received != declared:
        raise _cut(f"{received} of {declared} announced bytes were received")
    # HTTP/2 marks the end of every stream.
    marked = "transfer-encoding" in response.headers or response.http_version == "HTTP/2"
    return Body(content.removeprefix(_BOM), received, marked or declared is not None, members)


def head_of(received: bytes, headers: httpx.Headers, most: int) -> bytes:
    """The beginning of a body that is not complete, unpacked if its transfer is packed."""
    if headers.get("content-encoding", "identity").strip().lower() not in ("gzip", "x-gzip"):
        return received[:most]
    try:
        return zlib.decompressobj(_GZIP).decompress(received, most)
    except zlib.error:
        return b""  # its reader reports the damage


#: What is declared for lists that come in another format.
_FORMATS = {
    "text/csv": "Csv()",
    "text/tab-separated-values": 'Csv(delimiter="\\t")',
    "application/x-ndjson": "NdJson()",
    "application/ndjson": "NdJson()",
    "application/jsonl": "NdJson()",
    "application/xml": 'Xml("record")',
    "text/xml": 'Xml("record")',
}


def require_json(headers: httpx.Headers) -> None:
    """Refuse a response that is not JSON by its content type.

    Raises:
        AttemptFailed: it is not.
    """
    # Message is the standard library's parser for media types with parameters.
    message = Message()
    message["Content-Type"] = headers.get("content-type", "absent/absent")
    media = message.get_content_type()
    if media not in ("application/json", "text/json") and not media.endswith("+json"):
        named = "no Content-Type" if media == "absent/absent" else f"Content-Type {media[:60]}"
        if (declared := _FORMATS.get(media)) is not None:
            raise AttemptFailed(f"the response is not JSON ({named})", f"declare format={declared} of the endpoint")
        raise AttemptFailed(
            f"the response is not JSON ({named})",
            "open it: a login page means a wrong base URL or key; a maintenance page means to run again later",
            again=True,
        )
    charset = message.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise AttemptFailed(
            f"the response is JSON in {charset[:40]!r}, and JSON between systems must be UTF-8 (RFC 8259)",
            "ask the operator of the API to send UTF-8",
        )


def declared_length(headers: httpx.Headers) -> int | None:
    """The announced length of a body; None if there is none, or it means nothing."""
    # With both headers present Transfer-Encoding wins and Content-Length means nothing (RFC 9112, section 6.3).
    if "transfer-encoding" in headers:
        return None
    value = headers.get("content-length", "").split(",")[0].strip()
    return int(value) if value.isascii() and value.isdecimal() else None


async def _read_plain(pieces: AsyncIterator[bytes], cap: int) -> tuple[bytes, int]:
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > cap:
            raise _too_large(cap)
        parts.append(piece)
    return b"".join(parts), size


async def _read_gzip(pieces: AsyncIterator[bytes], cap: int) -> tuple[bytes, int, int]:
    parts: list[bytes] = []
    received = size = 0
    members = 1
    inflate = zlib.decompressobj(_GZIP)
    try:
        async for piece in pieces:
            received += len(piece)
            rest = piece
            while rest:
                if inflate.eof:
                    # A stream may have several members (RFC 1952); zlib refuses anything else after the end.
                    inflate = zlib.decompressobj(_GZIP)
                    members += 1
                part = inflate.decompress(rest, cap - size + 1)  # at most one byte more: enough to detect it
                size += len(part)
                if size > cap:
                    raise _too_large(cap)
                parts.append(part)
                rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    except zlib.error:
        damaged = True
    else:
        damaged = False
    if damaged:
        raise _cut("the gzip stream is damaged")
    if not inflate.eof:
        raise _cut("the gzip stream has no end")
    return b"".join(parts), received, members


def _cut(how: str) -> AttemptFailed:
    return AttemptFailed(
        f"the body is incomplete: {how}",
        "run again later; if it persists, ask the operator of the API or of the proxy in between",
        kind=SourceUnavailable,
        again=True,
    )


def _too_large(cap: int) -> AttemptFailed:
    return AttemptFailed(
        f"the body is larger than {cap / (1 << 20):.0f} MB after decoding",
        "declare a smaller page_size; if pages must be this large, raise the limit max_body_bytes",
    )
