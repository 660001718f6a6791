"""Channels of alerts: where messages are sent, and whether they were accepted.

A channel is an address, which is a secret: MEDALLION_ALERT_CHANNEL_<NAME>, or the block `alerts-<name>`. The channel
`default` is MEDALLION_ALERT_WEBHOOK_URL, or the block `alerts`. An http(s) address receives our JSON, unless the block
says that it is Slack or Teams; every other address is one of apprise, such as mailto://, slack:// or pagerduty://.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from flows.access import stores
from flows.access.addresses import embedded_stack
from flows.operations.services import notify
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

DEFAULT = "default"
#: The alert that a channel does not accept messages.
UNDELIVERED = "alerts not delivered"
_SECONDS = 10.0
#: Receivers with a format of their own, which apprise knows by their address.
_OWN_FORMAT = ("hooks.slack.com", "webhook.office.com", "logic.azure.com", "discord.com")
#: What a receiver may answer for a while: it is asked again soon.
_FOR_A_WHILE = frozenset({408, 425, 429})


class NotAccepted(Exception):
    """The receiver did not accept a message.

    `lasting`: it refuses this message, others may pass. `after`: seconds in which it wants no message at all.
    """

    def __init__(self, what: str, *, lasting: bool = False, after: float | None = None) -> None:
        super().__init__(what)
        self.what, self.lasting, self.after = what, lasting, after


def message_key(message_id: int, written_at: datetime) -> str:
    """By what a receiver knows a message that it received twice.

    An id alone is that of another message in another environment, and after a restore from a backup: a receiver that
    knows it would drop the message.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{settings().environment} {message_id} {written_at.isoformat()}"))


@dataclass(frozen=True, slots=True)
class Channel:
    """A place where messages are sent. Its repr never shows the address."""

    name: str
    url: str = field(repr=False)
    form: str = "json"

    async def send(
        self, message_id: int, key: str, severity: str, subject: str, body: str, facts: Mapping[str, Any]
    ) -> None:
        """Send a message once.

        Raises:
            NotAccepted: it was refused, or there was no answer. The text has no address.
        """
        try:
            address = urlsplit(self.url)
        except ValueError:
            raise NotAccepted("the channel's address is no URL") from None
        own_format = self.form != "json" or (address.hostname or "").endswith(_OWN_FORMAT)
        if address.scheme in ("http", "https") and not own_format:
            await self._post(key, {**facts, "id": message_id, "key": key, "subject": subject, "body": body})
        elif (problem := await notify(self.name, self.url, key, severity, subject, body)) is not None:
            raise NotAccepted(problem)

    async def _post(self, key: str, content: Mapping[str, Any]) -> None:
        try:
            # The status decides. A body that never ends would fill the memory, and one that is cut short after
            # "accepted" would have the message sent again.
            async with (
                httpx.AsyncClient(timeout=_SECONDS) as client,
                client.stream("POST", self.url, json=content, headers={"Idempotency-Key": key}) as answer,
            ):
                status, after = answer.status_code, _pause(answer.headers.get("retry-after", ""))
        except (httpx.InvalidURL, ValueError):
            raise NotAccepted("the channel's address is no URL") from None
        except httpx.HTTPError as problem:
            raise NotAccepted(f"no answer ({type(problem).__name__})") from None
        if not 200 <= status < 300:
            lasting = 400 <= status < 500 and status not in _FOR_A_WHILE
            raise NotAccepted(f"the receiver answered {status}", lasting=lasting, after=None if lasting else after)


def _pause(value: str) -> float | None:
    """Seconds that Retry-After asks for, by a number or a date; None if it is missing or neither."""
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def channel_of_environment(name: str) -> Channel | None:
    """The channel of that name, if its address is in the environment."""
    url = os.environ.get(f"MEDALLION_ALERT_CHANNEL_{name.upper().replace('-', '_')}")
    if not url and name == DEFAULT:
        url = os.environ.get("MEDALLION_ALERT_WEBHOOK_URL")
    return Channel(name, url) if url else None


def find_channel(name: str) -> Channel | None:
    """The channel of that name; None if it is not configured.

    Raises:
        ConfigurationError: the store of its address cannot be read.
    """
    if (channel := channel_of_environment(name)) is not None:
        return channel
    stack = embedded_stack()
    block = stores.block_document("alerts" if name == DEFAULT else f"alerts-{name}", stack)
    return None if block is None else Channel(name, str(block["webhook"]), str(block["form"]))


def need_channel(name: str) -> Channel:
    """The channel of that name.

    Raises:
        ConfigurationError: it is not configured.
    """
    channel = find_channel(name)
    if channel is None:
        variable = f"MEDALLION_ALERT_CHANNEL_{name.upper().replace('-', '_')}"
        error = ConfigurationError(
            f"the channel {name!r} has no address",
            where="alerts",
            fix=f"set {variable}, or register the block `{'alerts' if name == DEFAULT else f'alerts-{name}'}`",
        )
        error.exit_code = 2
        raise error
    return channel
