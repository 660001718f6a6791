"""What listens at a machine's end of the wire, and passes every byte on to a server of ours on loopback."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def passed_on(hosts: Sequence[str], ports: Sequence[int]) -> Iterator[None]:
    """Connections to any of the hosts at any of the ports reach 127.0.0.1 at the same port."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as servers:
            for host in hosts:
                for port in ports:
                    await servers.enter_async_context(await asyncio.start_server(_conversation(port), host, port))
            ready.set()
            await stop.wait()
            conversations = asyncio.all_tasks() - {asyncio.current_task()}
            for conversation in conversations:
                conversation.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(10), "the wire's end could not be listened at"
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def _conversation(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        there = asyncio.create_task(_pump(reader, behind_writer))
        back = asyncio.create_task(_pump(behind_reader, writer))
        # Whoever ends first ends both: a killed client must not leave a session behind at the server.
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, behind_writer):
            end.close()

    return converse


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
