"""Services that apprise knows (mail, Slack, PagerDuty, …): their text, and whether they accepted a message."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from typing import Any

from flows.operations.checks.blocking import Blocking

_REFUSED = "the receiver did not accept it, or did not answer"
_KINDS = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}
#: Words that notify many people anywhere in a text, and names that do so at the beginning of a word.
_MENTION = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|(?<!\w)@(?=[\w&!])", re.IGNORECASE)
_UNSEEN = "\u200b"

#: One thread per channel and address: a service that hangs must not take the threads of the others.
_threads: dict[tuple[str, str], Blocking[str | None]] = defaultdict(Blocking)
#: By the message's key: it was accepted after whoever sent it had given up waiting.
_accepted: set[str] = set()
#: By the message's key: recipients that have it, while others of the same address do not accept it.
_reached: dict[str, set[tuple[str, str]]] = defaultdict(set)


async def notify(name: str, url: str, key: str, severity: str, subject: str, body: str) -> str | None:
    """Send a message once; returns why it was not accepted, without the address, or None.

    Raises:
        TimeoutError: the channel's service still hangs in a former message.
    """

    def send() -> str | None:
        if key not in _accepted:
            problem = _send(url, key, severity, subject, body)
            if problem is not None:
                return problem
            _accepted.add(key)
        return None

    problem = await _threads[name, url].ask(send)
    if problem is None:
        _accepted.discard(key)
    return problem


def calm(text: str) -> str:
    """The text without what chat services act on: names of tables and errors must not notify people or hide links."""
    text = text.replace("<", "\u2039").replace(">", "\u203a").replace("](", f"]{_UNSEEN}(")
    return _MENTION.sub(f"@{_UNSEEN}", text)


def _send(url: str, key: str, severity: str, subject: str, body: str) -> str | None:
    import apprise  # takes a third of a second

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses and answers
    sender = apprise.Apprise()
    try:
        if not sender.add(url):
            return "apprise does not know this kind of address"
        is_mail = all(str(service.service_name) == "E-Mail" for service in sender)
        title, text = (subject, body) if is_mail else (calm(subject), calm(body))
        outcomes = [_to(one, key, severity, title, text) for one in sender]
        return None if all(outcomes) else _REFUSED
    except Exception as problem:  # a plug-in may raise anything, with the address in its text
        return f"{type(problem).__name__} in apprise"


def _to(service: Any, key: str, severity: str, title: str, text: str) -> bool:
    """To each recipient of a mail address once, even if another one refuses it."""

    def once() -> bool:
        return bool(_notified(service, severity, title, text))

    recipients = list(getattr(service, "targets", ()))
    if str(service.service_name) != "E-Mail" or len(recipients) < 2:
        return once()
    missing = False
    service.request_rate_per_sec = 0  # it would wait between them, for longer than a message may take
    for recipient in recipients:
        if recipient in _reached[key]:
            continue
        service.targets = [recipient]
        if once():
            _reached[key].add(recipient)
        else:
            missing = True
    if not missing:
        del _reached[key]
    return not missing


def _notified(service: Any, severity: str, title: str, text: str) -> bool:
    import apprise

    one = apprise.Apprise()
    one.add(service)
    return bool(one.notify(title=title, body=text, notify_type=_KINDS[severity], body_format="text"))
