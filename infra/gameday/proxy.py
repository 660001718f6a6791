"""A TCP proxy before the source database: it passes bytes, refuses, stalls, or resets connections in the middle."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from infra.local.ports import HOST

Mode = Literal["pass", "refuse", "stall", "reset"]

#: A connection is reset after so many bytes from the server: it has logged in, and a read is under way.
_RESET_AFTER_BYTES = 24_000
# SO_LINGER with a time of zero: closing sends a reset instead of an end.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """A proxy to a port of this machine, in a thread of its own. `mode` may be changed at any time."""

    target: int
    mode: Mode = "pass"
    port: int = field(default=0, init=False)
    resets: int = field(default=0, init=False)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop, init=False, repr=False)
    _conversations: set["asyncio.Task[None]"] = field(default_factory=set, init=False, repr=False)

    def start(self) -> None:
        """Listen on a free port."""
        listening = threading.Event()
        threading.Thread(target=self._serve, args=(listening,), name="proxy", daemon=True).start()
        if not listening.wait(30):
            raise RuntimeError("the proxy of the game does not start")

    def stop(self) -> None:
        """End it, and every connection."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

    def cut(self) -> None:
        """End the connections that are open."""

        def end() -> None:
            for conversation in [*self._conversations]:
                conversation.cancel()

        self._loop.call_soon_threadsafe(end)

    def _serve(self, listening: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, HOST, 0))
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        self._loop.run_forever()
        server.close()
        for conversation in [*self._conversations]:
            conversation.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = self._loop.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: asyncio.StreamWriter | None = None
        try:
            if self.mode == "refuse":
                return
            answers, server = await asyncio.open_connection(HOST, self.target)
            ways = [
                asyncio.create_task(self._pass_on(reader, server, may_reset=False)),
                asyncio.create_task(self._pass_on(answers, writer, may_reset=True)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
        except OSError:
            pass
        finally:
            if self.mode in ("refuse", "reset"):
                with suppress(OSError, AttributeError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            for side in (writer, server):
                if side is not None:
                    side.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, may_reset: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(8_192):
                while self.mode == "stall":  # noqa: ASYNC110 - it is set by another thread
                    await asyncio.sleep(0.1)
                passed += len(data)
                if self.mode == "reset" and may_reset and passed > _RESET_AFTER_BYTES:
                    self.resets += 1
                    return
                writer.write(data)
                await writer.drain()
