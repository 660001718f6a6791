"""Channels of alerts: where messages are sent, and whether they were accepted.

A channel is an address, which is a secret: MEDALLION_ALERT_CHANNEL_<NAME>, or the block `alerts-<name>`. The channel
`default` is MEDALLION_ALERT_WEBHOOK_URL, or the block `alerts`. An http(s) address receives our JSON, unless the block
says that it is Slack or Teams; every other address is one of apprise, such as mailto://, slack:// or pagerduty://.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from flows.access import stores
from flows.access.addresses import embedded_stack
from flows.values.errors import ConfigurationError

DEFAULT = "default"
#: The alert that a channel does not accept messages.
UNDELIVERED = "alerts not delivered"
_SECONDS = 10.0
#: Receivers with a format of their own, which apprise knows by their address.
_OWN_FORMAT = ("hooks.slack.com", "webhook.office.com", "logic.azure.com", "discord.com")
#: What a receiver may answer for a while: it is asked again soon.
_FOR_A_WHILE = frozenset({408, 425, 429})


class NotAccepted(Exception):
    """The receiver did not accept a message. `lasting`: it refuses this message, others may pass."""

    def __init__(self, what: str, *, lasting: bool = False) -> None:
        super().__init__(what)
        self.what, self.lasting = what, lasting


@dataclass(frozen=True, slots=True)
class Channel:
    """A place where messages are sent. Its repr never shows the address."""

    name: str
    url: str = field(repr=False)
    form: str = "json"

    async def send(self, message_id: int, severity: str, subject: str, body: str, facts: Mapping[str, Any]) -> None:
        """Send a message once.

        Raises:
            NotAccepted: it was refused, or there was no answer. The text has no address.
        """
        address = urlsplit(self.url)
        own_format = self.form != "json" or (address.hostname or "").endswith(_OWN_FORMAT)
        if address.scheme in ("http", "https") and not own_format:
            await self._post(message_id, subject, body, facts)
        else:
            await asyncio.to_thread(self._notify, severity, subject, body)

    async def _post(self, message_id: int, subject: str, body: str, facts: Mapping[str, Any]) -> None:
        content = {**facts, "id": message_id, "subject": subject, "body": body}
        try:
            async with httpx.AsyncClient(timeout=_SECONDS) as client:
                answer = await client.post(self.url, json=content, headers={"Idempotency-Key": str(message_id)})
        except httpx.InvalidURL:
            raise NotAccepted("the channel's address is no URL") from None
        except httpx.HTTPError as problem:
            raise NotAccepted(f"no answer ({type(problem).__name__})") from None
        if not answer.is_success:
            lasting = 400 <= answer.status_code < 500 and answer.status_code not in _FOR_A_WHILE
            raise NotAccepted(f"the receiver answered {answer.status_code}", lasting=lasting)

    def _notify(self, severity: str, subject: str, body: str) -> None:
        import apprise  # takes a third of a second

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses and answers
        sender = apprise.Apprise()
        if not sender.add(self.url):
            raise NotAccepted("apprise does not know this kind of address")
        kinds = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}
        try:
            accepted = sender.notify(title=subject, body=body, notify_type=kinds[severity], body_format="text")
        except Exception as problem:  # a plug-in may raise anything, with the address in its text
            raise NotAccepted(f"{type(problem).__name__} in apprise") from None
        if not accepted:
            raise NotAccepted("the receiver did not accept it, or did not answer")


def find_channel(name: str) -> Channel | None:
    """The channel of that name; None if it is not configured.

    Raises:
        ConfigurationError: the store of its address cannot be read.
    """
    url = os.environ.get(f"MEDALLION_ALERT_CHANNEL_{name.upper().replace('-', '_')}")
    if not url and name == DEFAULT:
        url = os.environ.get("MEDALLION_ALERT_WEBHOOK_URL")
    if url:
        return Channel(name, url)
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
