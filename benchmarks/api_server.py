"""An API that costs its readers next to nothing: pages rendered beforehand, one write for each answer.

    python -m benchmarks.api_server PORT PAGES RECORDS LATENCY

    GET /items?page=3 → {"data": [{…}, …], "meta": {"total": 300000, "pages": 300}}     LATENCY seconds later

A page beyond the end is empty. A process of its own, so that it shares no interpreter with what is measured.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infra.local.ports import any_free

_RECORD = (
    b'{"id":%d,"number":"SO-%08d","status":"paid","currency":"EUR","total":"%d.45","updated_at":"2024-01-%02dT10:00:00Z",'
    b'"customer":{"id":%d,"email":"buyer@example.com","address":{"city":"Graz","country":"AT","geo":[47.07,15.44]}},'
    b'"line_items":[{"line":1,"sku":"A-%d","quantity":2,"price":10.10},{"line":2,"sku":"B-%d","quantity":1,"price":0.25}],'
    b'"tags":["web","gift"],"note":null}'
)


@dataclass(frozen=True, slots=True)
class Served:
    """A list in pages: how many, of how many records each, and how long an answer takes in seconds."""

    pages: int
    records: int
    latency: float

    @property
    def total(self) -> int:
        """Records in all."""
        return self.pages * self.records


@contextmanager
def running(served: Served) -> Iterator[str]:
    """The base address of a server in a process of its own."""
    port = any_free()
    command = [sys.executable, "-m", "benchmarks.api_server"]
    arguments = [str(port), str(served.pages), str(served.records), str(served.latency)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class _Conversation(asyncio.Protocol):
    """One connection. Requests have no body, so each ends with its head."""

    def __init__(self, answers: list[bytes], latency: float) -> None:
        self._answers, self._latency = answers, latency
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._waiting = (self._waiting + data).split(b"\r\n\r\n")
        for head in heads:
            query = head.partition(b"?")[2].partition(b" ")[0]
            page = int(dict(pair.split(b"=", 1) for pair in query.split(b"&") if pair).get(b"page", b"1"))
            answer = self._answers[min(page, len(self._answers)) - 1]
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)
            else:
                self._transport.write(answer)


def _render(served: Served) -> list[bytes]:
    meta = b'],"meta":{"total":%d,"pages":%d}}' % (served.total, served.pages)
    answers = []
    for page in range(served.pages + 1):
        first = page * served.records
        numbers = range(first, first + served.records) if page < served.pages else range(0)
        records = (_RECORD % (n, n, n % 900, n % 28 + 1, n % 5000, n % 700, n % 300) for n in numbers)
        body = b'{"data":[' + b",".join(records) + meta
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        answers.append(head + body)
    return answers


async def _serve(port: int, served: Served) -> None:
    answers = _render(served)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Conversation(answers, served.latency), "127.0.0.1", port)
    print("ready", flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Served(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
