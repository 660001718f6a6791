"""A TCP proxy before a PostgreSQL that cuts the connection around a COMMIT, as a network may."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

from flows.values.connection import DatabaseConnection

# PostgreSQL's simple query message: Q, its length, the text, a zero byte.
_COMMIT = b"COMMIT;\x00"
COMMIT = b"Q" + struct.pack("!i", len(_COMMIT) + 4) + _COMMIT
# A load commits more than once; the transaction that publishes writes this into the ledger.
PUBLISHING = b"set status = 'published'"

Cut = Literal["before", "after", "stalled"]

_STALL_AFTER_BYTES = 1 << 20
_STALL_SECONDS = 0.3


@asynccontextmanager
async def proxy(behind: DatabaseConnection, cut: Cut) -> AsyncIterator[DatabaseConnection]:
    """The address of a proxy before `behind` that loses the first COMMIT that publishes a load, or its answer.

    `before`: the COMMIT never arrives. `after`: it arrives, is done, and the answer never comes back.
    `stalled`: after 1 MB nothing is taken any more, and when all buffers are full the connection breaks.
    """
    parts = urlsplit(behind.url)
    cuts = 0
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(parts.hostname, parts.port)
        answers = asyncio.create_task(pump(server_reader, writer))
        nonlocal cuts
        publishing, passed = False, 0
        try:
            while data := await reader.read(65536):
                passed += len(data)
                if cut == "stalled" and passed > _STALL_AFTER_BYTES and not cuts:
                    cuts += 1
                    await asyncio.sleep(_STALL_SECONDS)
                    break
                publishing = publishing or PUBLISHING in data
                if cut != "stalled" and publishing and COMMIT in data and not cuts:
                    cuts += 1
                    if cut == "after":
                        answers.cancel()
                        await asyncio.wait([answers])
                        server_writer.write(data)
                        await server_writer.drain()
                        await server_reader.read(1)  # the server has answered: it is done
                    break
                server_writer.write(data)
                await server_writer.drain()
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
    assert cuts, "what was to be cut never came"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
