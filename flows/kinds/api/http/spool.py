"""A body on its way to the disk: downloads of any size, with little memory.

It is complete on the disk before any record of it is read: nobody waits for the other, and its end is known.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from email.message import Message

import httpx

from flows.kinds.api.bodies.document import Download
from flows.kinds.api.bodies.unpack import cut
from flows.kinds.api.declared.format import Format, NdJson
from flows.kinds.api.http.body import Body, declared_length
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.limits import HttpLimits

# So much must arrive within `request_seconds`: a slower drip is no download.
_PROGRESS_BYTES = 1 << 20
_ENCODINGS = ("identity", "", "gzip", "x-gzip")


async def spooled(
    response: httpx.Response,
    url: httpx.URL,
    form: Format,
    limits: HttpLimits,
    deadline: asyncio.Timeout,
    pieces: AsyncIterator[bytes] | None = None,
) -> Download:
    """Write a streamed response to a file without a name. `pieces` are those of it, if some have been read before.

    Raises:
        AttemptFailed: it is of another kind than declared, truncated, or larger than the limits allow.
        httpx.HTTPError: the connection broke.
        TimeoutError: it is too slow.
    """
    _require_kind(response.headers, form)
    declared = declared_length(response.headers)
    if declared is not None and declared > limits.max_document_bytes:
        raise _too_large(limits)
    loop = asyncio.get_running_loop()
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by its reader
    try:
        received = counted = 0
        async for piece in response.aiter_raw(1 << 18) if pieces is None else pieces:
            received += len(piece)
            if received > limits.max_document_bytes:
                raise _too_large(limits)
            file.write(piece)
            if received - counted >= _PROGRESS_BYTES:
                counted = received
                deadline.reschedule(loop.time() + limits.request_seconds)
        if declared is not None and received != declared:
            raise cut(f"{received} of {declared} announced bytes were received")
    except BaseException:
        file.close()
        raise
    # HTTP/2 marks the end of every stream.
    marked = "transfer-encoding" in response.headers or response.http_version == "HTTP/2"
    return Download(file, response.headers, url, received, end_proven=marked or declared is not None)


def spooled_body(body: Body, headers: httpx.Headers, url: httpx.URL, form: Format) -> Download:
    """A body that has been read to see what it means.

    Raises:
        AttemptFailed: it is of another kind than declared.
    """
    _require_kind(headers, form)
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by its reader
    file.write(body.content)
    plain = headers.copy()
    plain.pop("content-encoding", None)
    return Download(file, plain, url, body.received_bytes, body.end_proven, members=body.members)


def _require_kind(headers: httpx.Headers, form: Format) -> None:
    message = Message()
    message["Content-Type"] = headers.get("content-type", "absent/absent")
    media = message.get_content_type()
    is_json = media in ("application/json", "text/json") or media.endswith("+json")
    if media == "text/html" or (is_json and not isinstance(form, NdJson)):
        raise AttemptFailed(
            f"the response is not {type(form).__name__} (Content-Type {media[:60]})",
            "open it: a login page means a wrong base URL or key; JSON may be an error, or a job that is not done",
            again=True,
        )
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise AttemptFailed(
            f"the body is encoded as {encoding[:40]!r}, and only gzip was requested",
            "ask the operator of the API, or of the proxy in between, to honour Accept-Encoding",
        )


def _too_large(limits: HttpLimits) -> AttemptFailed:
    return AttemptFailed(
        f"the document is larger than {limits.max_document_bytes / (1 << 20):,.0f} MB",
        "request smaller parts; if documents must be this large, raise the limit max_document_bytes",
    )
