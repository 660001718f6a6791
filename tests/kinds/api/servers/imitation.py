"""What the imitations share: an HTTP server in a thread, and trouble on demand.

    with Shopify() as shop:
        shop.trouble[3] = refuse(429, "Retry-After: 2.0")    # the third request from now on
        shop.trouble[5] = cut                                # the fifth answer ends in the middle
        shop.before[4] = lambda: shop.remove("orders", 7)    # the list shifts while it is being read
        ...
        assert [asked.path for asked in shop.asked] == [...]

A server answers in plain HTTP/1.1 with keep-alive. It lives in a thread of its own, so a load in another process
reads it just as well.
"""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request: header names in lower case, `at` in the loop's seconds."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass(frozen=True)
class Reply:
    """An answer, before anything happens to it."""

    code: int
    body: bytes
    headers: tuple[str, ...] = ()
    content_type: str = "application/json; charset=utf-8"

    def __bytes__(self) -> bytes:
        head = [
            f"HTTP/1.1 {self.code} Text",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *self.headers,
        ]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + self.body


def as_json(code: int, value: object, *headers: str, content_type: str = "application/json; charset=utf-8") -> Reply:
    """A reply of one JSON value."""
    return Reply(code, json.dumps(value, separators=(",", ":")).encode(), headers, content_type)


Trouble = Callable[[Reply, asyncio.StreamWriter], Awaitable[None]]
"""What is sent instead of the right answer, which it is given."""


def refuse(code: int, *headers: str, body: bytes = b'{"error": "for alice@example.com"}') -> Trouble:
    """Another answer."""

    async def send(_: Reply, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(Reply(code, body, headers)))

    return send


async def cut(reply: Reply, writer: asyncio.StreamWriter) -> None:
    """The head and half of the body, then an orderly close."""
    whole = bytes(reply)
    writer.write(whole[: len(whole) - len(reply.body) // 2 - 1])
    await writer.drain()
    writer.close()


async def cut_unseen(reply: Reply, writer: asyncio.StreamWriter) -> None:
    """Half of the body and no length: only the JSON itself tells that the end is missing."""
    head = f"HTTP/1.1 {reply.code} Text\r\nContent-Type: {reply.content_type}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + reply.body[: len(reply.body) // 2])
    await writer.drain()
    writer.close()


async def reset(reply: Reply, writer: asyncio.StreamWriter) -> None:
    """Half of the answer, then a TCP reset."""
    whole = bytes(reply)
    writer.write(whole[: len(whole) // 2])
    await writer.drain()
    await asyncio.sleep(0.005)  # a reset discards what the other side has not read yet
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def slow(seconds: float) -> Trouble:
    """The right answer, late."""

    async def send(reply: Reply, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(bytes(reply))

    return send


async def web_page(_: Reply, writer: asyncio.StreamWriter) -> None:
    """Status 200, and HTML: what a proxy shows during maintenance."""
    writer.write(bytes(Reply(200, b"<html>back soon</html>", content_type="text/html")))


async def closed(_: Reply, writer: asyncio.StreamWriter) -> None:
    """Nothing at all: the connection is closed."""
    writer.close()


@dataclass
class Storm:
    """Trouble by chance: this share of the requests meets one of `kinds`, never more than `longest` in a row."""

    chance: Random
    share: float
    kinds: tuple[Trouble, ...]
    longest: int = 3
    met: int = 0
    _in_a_row: int = 0

    def next(self) -> Trouble | None:
        """What happens to this request; None leaves it alone."""
        if self._in_a_row >= self.longest or self.chance.random() >= self.share:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        self.met += 1
        return self.chance.choice(self.kinds)


@dataclass
class Imitation:
    """A server in a thread. A subclass says what is answered."""

    asked: list[Asked] = field(default_factory=list)
    #: The status of each answer, as it would have been without trouble.
    statuses: list[int] = field(default_factory=list)
    trouble: dict[int, Trouble] = field(default_factory=dict)
    before: dict[int, Callable[[], object]] = field(default_factory=dict)
    storm: Storm | None = None
    #: Seconds before every answer.
    latency: float = 0.0
    url: str = ""

    def answer(self, asked: Asked) -> Reply:
        """What the server says when nothing goes wrong; one that offers nothing knows of nothing."""
        return Reply(404, b"")

    async def respond(self, asked: Asked) -> Reply:
        """The same, for a server that has to ask elsewhere first."""
        return self.answer(asked)

    def begin(self) -> None:
        """Forget requests and planned trouble; the next request is number 1."""
        self.asked.clear()
        self.statuses.clear()
        self.trouble.clear()
        self.before.clear()
        self.storm = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._conversations: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._listener = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._listener.close()
        for conversation in list(self._conversations):
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = self._loop.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                asked = await _request(reader)
                self.asked.append(asked)
                number = len(self.asked)
                self.before.get(number, lambda: None)()
                reply = await self.respond(asked)
                self.statuses.append(reply.code)
                if self.latency:
                    await asyncio.sleep(self.latency)
                trouble = self.trouble.get(number) or (self.storm.next() if self.storm else None)
                if trouble is None:
                    writer.write(bytes(reply))
                else:
                    await trouble(reply, writer)
                if not writer.is_closing():
                    await writer.drain()
        writer.close()


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Asked(method, parts.path, query, headers, body, asyncio.get_running_loop().time())


def moment(text: str) -> datetime:
    """A moment as APIs write it, with Z or an offset; one without is UTC's."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)
