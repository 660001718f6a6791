"""What a connection pooler does to start-up parameters: it drops those it does not track, or rejects the session."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

from flows.values.connection import DatabaseConnection
from tests.kinds.postgres.proxy import pump

_SSL_REQUEST = 80877103
# What PgBouncer tracks by default.
_TRACKED = {"user", "database", "client_encoding", "application_name"}


@asynccontextmanager
async def pooler(behind: DatabaseConnection, unknown: Literal["drop", "reject"]) -> AsyncIterator[DatabaseConnection]:
    """The address of a pooler before `behind`."""
    parts = urlsplit(behind.url)
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parameters = await _start_up(reader, writer)
        refused = [name for name in parameters if name not in _TRACKED]
        if refused and unknown == "reject":
            writer.write(_error(f"unsupported startup parameter: {refused[0]}"))
            await writer.drain()
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection(parts.hostname, parts.port)
        kept = {name: value for name, value in parameters.items() if name in _TRACKED}
        body = struct.pack("!i", 196608) + b"".join(f"{n}\0{v}\0".encode() for n, v in kept.items()) + b"\0"
        server_writer.write(struct.pack("!i", len(body) + 4) + body)
        answers = asyncio.create_task(pump(server_reader, writer))
        try:
            await pump(reader, server_writer)
        finally:
            answers.cancel()
            for side in (writer, server_writer):
                side.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(converse(reader, writer))
        conversations.add(conversation)
        conversation.add_done_callback(conversations.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield DatabaseConnection(behind.name, behind.url.replace(f":{parts.port}/", f":{port}/"))
    finally:
        listener.close()
        for conversation in list(conversations):
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


async def _start_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, str]:
    while True:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        message = await reader.readexactly(length - 4)
        if struct.unpack("!i", message[:4]) != (_SSL_REQUEST,):
            words = message[4:].decode().split("\0")
            return {name: value for name, value in zip(words[::2], words[1::2], strict=False) if name}
        writer.write(b"N")


def _error(message: str) -> bytes:
    body = b"SFATAL\0VFATAL\0C08P01\0M" + message.encode() + b"\0\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body
