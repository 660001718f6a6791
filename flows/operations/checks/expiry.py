"""What ends on a date: certificates of servers, and passwords of our roles."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.operations.alerts import Condition

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_SOON, _NOW = timedelta(days=7), timedelta(days=2)
_SECONDS = 5.0
#: PostgreSQL's request for TLS, answered by S or N.
_TLS_REQUEST = struct.pack("!ii", 8, 80877103)

_PASSWORDS = """
select rolname as role, rolvaliduntil as until from pg_roles
where rolcanlogin and rolvaliduntil < clock_timestamp() + $1::interval
    and (rolname in (session_user, current_user) or rolname ~ '^medallion_')
order by rolname
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that shows a certificate. `postgres`: it asks for its own word before the handshake."""

    name: str
    host: str
    port: int
    postgres: bool = False


def endpoint(name: str, url: str) -> Endpoint | None:
    """Where a URL leads, if there is TLS: https, or PostgreSQL on another machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None  # several hosts, or no URL: whoever connects says so
    if not host or host.startswith("/"):
        return None
    if parts.scheme == "https":
        return Endpoint(name, host, port or 443)
    if parts.scheme in ("postgresql", "postgres") and "sslmode=" in url and "sslmode=disable" not in url:
        return Endpoint(name, host, port or 5432, postgres=True)
    return None


async def certificates(endpoints: Iterable[Endpoint], now: datetime, ahead: timedelta) -> list[Condition]:
    """Certificates that end within that time. A server that does not answer is another check's business."""
    known = {(each.host, each.port): each for each in endpoints}
    ends = await asyncio.gather(*(_ends(each) for each in known.values()))
    return [
        Condition(
            "certificate ends",
            each.name,
            _severity(end - now),
            f"the certificate of {each.host}:{each.port} {_ending(end, now)}",
            "have its owner renew it; connections fail from then on",
        )
        for each, end in zip(known.values(), ends, strict=True)
        if end is not None and end - now < ahead
    ]


async def passwords(connection: Connection[Record], now: datetime, ahead: timedelta) -> list[Condition]:
    """Passwords of the platform's roles that end within that time."""
    return [
        Condition(
            "password ends",
            f"role {row['role']}",
            _severity(row["until"] - now),
            f"its password {_ending(row['until'], now)}",
            "run `medallion rotate`, or set another end (`alter role … valid until …`)",
        )
        for row in await connection.fetch(_PASSWORDS, ahead)
    ]


def _ending(end: datetime, now: datetime) -> str:
    return f"{'ended' if end < now else 'ends'} on {end:%Y-%m-%d %H:%M} UTC"


def _severity(left: timedelta) -> str:
    return "critical" if left < _NOW else "error" if left < _SOON else "warning"


async def _ends(at: Endpoint) -> datetime | None:
    """When the certificate that a server shows ends, also one that nobody would trust; None without an answer."""
    # What is looked at is the date; nothing is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    writer = None
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(at.host, at.port, ssl=None if at.postgres else context)
            if at.postgres:
                writer.write(_TLS_REQUEST)
                if await reader.readexactly(1) != b"S":
                    return None
                await writer.start_tls(context, server_hostname=at.host)
            shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return _end_of(shown.getpeercert(binary_form=True))
    except (OSError, TimeoutError, EOFError):
        return None
    finally:
        if writer is not None:
            with suppress(OSError):
                writer.transport.abort()


def _end_of(certificate: bytes | None) -> datetime | None:
    if certificate is None:
        return None
    from cryptography.x509 import load_der_x509_certificate  # 7 MB

    return load_der_x509_certificate(certificate).not_valid_after_utc.astimezone(UTC)
