"""HTTP servers on raw sockets that misbehave on command.

A server is given its answers in order; each is a function that writes bytes to the connection, so that any fault of
a real network can be written down:

    async with serve(json_page([1], following="/items?page=2"), reset_after(b"HTTP/1.1 200"), json_page([2])) as server:
        ...
    assert [request.target for request in server.requests] == ["/items", "/items?page=2", "/items?page=2"]
"""

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What the client sent: `headers` by lower-case name, `at` in the loop's seconds."""

    method: str
    target: str
    headers: dict[str, str]
    at: float
    connection: int
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass
class Server:
    """A running server and what it was asked."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    unexpected: int = 0

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve(
    *answers: Answer, forever: Answer | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve `answers` in order, then `forever`; without it one request too many gets a 599 and is counted."""
    waiting = list(answers)
    server = Server("")
    conversations: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(converse(reader, writer))
        conversations.add(conversation)
        conversation.add_done_callback(conversations.discard)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        number = server.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError), closing(writer):
            while not writer.is_closing():
                request = await _read_request(reader, number)
                server.requests.append(request)
                if waiting:
                    answer = waiting.pop(0)
                elif forever is not None:
                    answer = forever
                else:
                    server.unexpected += 1
                    answer = status(599)
                await answer(request, writer)
                with suppress(ConnectionError):
                    await writer.drain()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
    assert server.unexpected == 0, f"the client asked more often than planned: {server.targets}"


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, asyncio.get_running_loop().time(), connection, body)


def raw(*pieces: bytes, pause: float = 0.0, close: bool = False) -> Answer:
    """Exactly these bytes, `pause` seconds apart, then keep the connection or close it."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        if close:
            writer.close()

    return answer


def reset_after(sent: bytes) -> Answer:
    """These bytes, then a TCP reset instead of an orderly close."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(0.02)  # a reset discards what the other side has not read yet
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return answer


def drip(head: bytes, body: bytes, every: float) -> Answer:
    """A byte at a time: each one in time, the whole never."""
    return raw(head, *(body[at : at + 1] for at in range(len(body))), pause=every)


def silence() -> Answer:
    """The connection is accepted, the request is read, and nothing follows."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)
        writer.close()

    return answer


def response(code: int, body: bytes, *headers: str, content_type: str = "application/json") -> bytes:
    """The bytes of a correct answer."""
    head = [f"HTTP/1.1 {code} Text", f"Content-Length: {len(body)}", f"Content-Type: {content_type}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def head(*headers: str, code: int = 200, content_type: str = "application/json") -> bytes:
    """Status line and headers, and nothing about the body's length."""
    return "\r\n".join([f"HTTP/1.1 {code} Text", f"Content-Type: {content_type}", *headers]).encode() + b"\r\n\r\n"


def status(code: int, *headers: str) -> Answer:
    """An error with a body that must never be quoted."""
    return raw(response(code, b'{"detail": "row 4711 of alice@example.com"}', *headers))


def json_page(
    records: Sequence[object],
    *headers: str,
    following: str | None = None,
    total: int | None = None,
    zipped: bool = False,
) -> Answer:
    """`{"data": [...], "meta": {"total": …}}` with a Link header when another page follows."""
    body = json.dumps({"data": list(records), "meta": {"total": total}}).encode()
    extra = list(headers)
    if following is not None:
        extra.append(f'Link: <{following}>; rel="next"')
    if zipped:
        body = gzip.compress(body)
        extra.append("Content-Encoding: gzip")
    return raw(response(200, body, *extra))


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A chunked body; without `end` the last chunk is missing."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return body + (b"0\r\n\r\n" if end else b"")
