"""The first message on a web socket (RFC 6455), by which clients of Prefect's events log in, with another token."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

_TEXT_AT_ONCE = 0x81
_CONTROL = 0x08
_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
#: `{"type": "auth", "token": …}` has some 60 bytes; what is longer is no login and is passed on as it is.
_LONGEST = 4096


async def until_login(reader: asyncio.StreamReader, token: str, secret: str) -> AsyncIterator[bytes]:
    """What a client sends up to its first message, with `secret` in the place of `token` if that is a login by it.

    Clients ping before: such frames come first. Raises IncompleteReadError when the client ends before.
    """
    while True:
        start = await reader.readexactly(2)
        length = start[1] & ~_MASKED
        if not start[1] & _MASKED or length == _EIGHT_BYTES:
            yield start  # against the protocol, or no login: whoever receives it finds out
            return
        extended = await reader.readexactly(2) if length == _TWO_BYTES else b""
        size = int.from_bytes(extended) if extended else length
        if size > _LONGEST:
            yield start + extended
            return
        mask = await reader.readexactly(4)
        payload = await reader.readexactly(size)
        if start[0] == _TEXT_AT_ONCE:
            yield _login(payload, mask, token, secret) or start + extended + mask + payload
            return
        yield start + extended + mask + payload
        if not start[0] & _CONTROL:
            return


def _login(payload: bytes, mask: bytes, token: str, secret: str) -> bytes | None:
    try:
        message = json.loads(_masked(payload, mask))
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("token") != token:
        return None
    text = json.dumps({**message, "token": secret}).encode()
    size = len(text)
    length = bytes([_MASKED | size]) if size < _TWO_BYTES else bytes([_MASKED | _TWO_BYTES]) + size.to_bytes(2)
    return bytes([_TEXT_AT_ONCE]) + length + mask + _masked(text, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask), strict=False))
