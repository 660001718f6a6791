"""The floor: one connection, one page after another, each record's bytes into a jsonb column by COPY.

No keys, no types, no metadata, no rules, no ledger, no check that a body is whole, no pause after an error.
"""

from __future__ import annotations

import os
import struct

import httpx
import msgspec
import psycopg

_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
_ROW = struct.Struct("!hiB")


class _Meta(msgspec.Struct):
    pages: int


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    meta: _Meta


def main() -> None:
    """Read every page into the table `target`."""
    decode = msgspec.json.Decoder(_Page).decode
    statement = "copy target (payload) from stdin (format binary)"
    with (
        httpx.Client(base_url=os.environ["BENCH_API"]) as client,
        psycopg.connect(os.environ["BENCH_WAREHOUSE"]) as connection,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        copy.write(_HEADER)
        number, pages = 1, 1
        while number <= pages:
            page = decode(client.get("/items", params={"page": number}).raise_for_status().content)
            number, pages = number + 1, page.meta.pages
            rows: list[bytes | msgspec.Raw] = []
            for record in page.data:
                rows += (_ROW.pack(1, len(record) + 1, 1), record)
            copy.write(b"".join(rows))
        copy.write(struct.pack("!h", -1))


if __name__ == "__main__":
    main()
