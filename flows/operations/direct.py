"""Messages that do not pass the outbox: what to say while the warehouse, where the outbox is, does not answer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.declare.route import Route
from flows.operations.alerts import Condition
from flows.operations.channels import Channel, NotAccepted, message_key
from flows.operations.flapping import TIMES, spelled, window
from flows.operations.messages import runbook_of
from flows.operations.outbox import SETTLE
from flows.values.settings import settings
from flows.values.visible import visible

_log = logging.getLogger(__name__)
#: A mail server that hangs must not keep the watch from looking.
_SEND_SECONDS = 20.0
_WORDS = {"opened": "", "flapping": "flapping: ", "resolved": "over: "}
_NOTES = {
    "flapping": "It flaps: the next message about it follows when it has not been there for {}",
    "resolved": "It flapped, and has not been there for {}",
}
_FIRST_DELAY, _LONGEST_DELAY = timedelta(seconds=5), timedelta(minutes=5)


@dataclass(slots=True)
class Told:
    """A problem, since when it is known, and which channels have accepted word of it and of its end.

    `opened`: when it was sent, in the window of flapping. `seen_at`: when it was there last, if it flaps.
    """

    name: str
    subject: str
    what: str
    fix: str
    since: datetime
    channels: list[str] = field(default_factory=list)
    over_at: datetime | None = None
    over: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    next_at: dict[str, datetime] = field(default_factory=dict)
    opened: list[datetime] = field(default_factory=list)
    seen_at: datetime | None = None

    def flaps(self) -> bool:
        """Whether it was sent too often to be sent each time: flows/operations/flapping.py."""
        return len(self.opened) >= TIMES - 1


@dataclass(slots=True)
class Direct:
    """Tells each critical problem once per channel, and its end once. `file` keeps that over restarts."""

    routes: Sequence[Route]
    find: Callable[[str], Channel | None]
    file: Path | None = None
    settle: timedelta = SETTLE
    _told: dict[tuple[str, str], Told] = field(default_factory=dict, init=False)
    _opened: dict[tuple[str, str], list[datetime]] = field(default_factory=lambda: defaultdict(list), init=False)
    _written: str = field(default="[]", init=False)

    def __post_init__(self) -> None:
        if self.file is None:
            return
        with suppress(OSError, ValueError, TypeError, KeyError):
            self._written = self.file.read_text(encoding="utf-8")
            for entry in json.loads(self._written):
                for name in ("since", "over_at", "seen_at"):
                    entry[name] = datetime.fromisoformat(entry[name]) if entry.get(name) else None
                entry["opened"] = [datetime.fromisoformat(at) for at in entry.get("opened", ())]
                told = Told(**{**entry, "attempts": {}, "next_at": {}})
                self._told[told.name, told.subject] = told

    async def tell(self, present: Sequence[Condition], elsewhere: Sequence[Condition], now: datetime) -> None:
        """Send what lasts and was not told yet, and the end of what was told and is not present any more.

        `elsewhere` is sent by the outbox from now on, and so is its end.
        """
        here = {(each.name, each.subject): each for each in present}
        for each in elsewhere:
            if (each.name, each.subject) not in here:
                self._told.pop((each.name, each.subject), None)
        for key, each in here.items():
            told = self._told.get(key)
            if told is not None and told.seen_at is not None:
                told.over_at = None  # it was sent as one that flaps
            if told is None or told.over_at is not None:
                opened = [at for at in self._opened.get(key, ()) if now - at < window()]
                told = self._told[key] = Told(each.name, each.subject, each.what, each.fix, now, opened=opened)
            if told.flaps():
                told.seen_at = now
            told.what, told.fix = each.what, each.fix
        for key, told in [*self._told.items()]:
            if now < told.since:  # the clock jumped back
                told.since = now
                told.next_at.clear()
            if key not in here:
                told.over_at = told.over_at or now
            if told.over_at is None and now - told.since >= self.settle:
                event = "flapping" if told.flaps() else "opened"
                await self._send(told, self._channels(told), told.channels, event, now)
                if told.channels and told.since not in self._opened[key]:
                    self._opened[key].append(told.since)
            if told.over_at is not None and (told.seen_at is None or now - told.seen_at >= window()):
                await self._send(told, told.channels, told.over, "resolved", now)
                if set(told.over) >= set(told.channels):
                    del self._told[key]
        self._keep()

    def since(self, name: str, subject: str) -> datetime | None:
        """Since when a problem is known that was there when it was looked at last; None if there is none."""
        told = self._told.get((name, subject))
        return None if told is None or told.over_at is not None else told.since

    def _channels(self, told: Told) -> list[str]:
        about = [f"{told.name} {told.subject}"]
        names = [name for route in self.routes if route.takes("critical", about) for name in route.channels]
        return [*dict.fromkeys(names)]

    async def _send(self, told: Told, names: Sequence[str], accepted: list[str], event: str, now: datetime) -> None:
        async def one(name: str) -> None:
            channel = self.find(name)
            if channel is None:
                if event == "resolved":
                    accepted.append(name)  # its address is gone, nobody is there to be told
                return
            if now < told.next_at.get(f"{event} {name}", now):
                return
            number = zlib.crc32(f"{told.name}\0{told.subject}\0{told.since.isoformat()}\0{event}".encode())
            subject, body, facts = _message(told, event)
            key = message_key(-number, told.since)
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await channel.send(-number, key, "critical", subject, body, facts)
            except Exception as problem:  # one channel must not keep this from the others
                why = "no answer" if isinstance(problem, TimeoutError) else f"unexpected {type(problem).__name__}"
                why = problem.what if isinstance(problem, NotAccepted) else why
                count = told.attempts.get(f"{event} {name}", 0)
                told.attempts[f"{event} {name}"] = count + 1
                told.next_at[f"{event} {name}"] = now + min(_FIRST_DELAY * 2 ** min(count, 10), _LONGEST_DELAY)
                _log.warning("channel %s did not accept a message about %s: %s", name, told.name, why)
            else:
                accepted.append(name)

        await asyncio.gather(*(one(name) for name in names if name not in accepted))

    def _keep(self) -> None:
        entries = [
            {
                "name": told.name,
                "subject": told.subject,
                "what": told.what,
                "fix": told.fix,
                "since": told.since.isoformat(),
                "channels": told.channels,
                "over_at": told.over_at.isoformat() if told.over_at else None,
                "over": told.over,
                "opened": [at.isoformat() for at in told.opened],
                "seen_at": told.seen_at.isoformat() if told.seen_at else None,
            }
            for told in self._told.values()
        ]
        text = json.dumps(entries)
        if self.file is None or text == self._written:
            return
        partial = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        with suppress(OSError):  # a full disk, or no home: then a restart tells once more
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.file)
            self._written = text


def _message(told: Told, event: str) -> tuple[str, str, Mapping[str, Any]]:
    environment, since = settings().environment, told.since.astimezone(UTC)
    ended = told.over_at.astimezone(UTC) if event == "resolved" and told.over_at is not None else None
    title = f"{told.name} {told.subject}: {told.what}"
    subject = visible(f"[{environment}] critical: {_WORDS[event]}{title}")[:250]
    note = _NOTES[event].format(spelled(window())) if told.flaps() else None
    lines = [
        note,
        f"Since {since:%Y-%m-%d %H:%M} UTC" + (f", over at {ended:%H:%M} UTC" if ended else ""),
        f"Where: {told.subject}",
        f"What: {told.what}",
        None if ended else f"Next: {told.fix}",
        f"Runbook: {runbook_of(told.name)}",
        "Alerts raised meanwhile follow now." if ended else "Other alerts wait until it is over.",
    ]
    facts = {
        "version": 1,
        "event": event,
        "environment": environment,
        "incident": None,
        "severity": "critical",
        "title": title,
        "since": since.isoformat(),
        "note": note,
        "affected": [],
        "runbook": runbook_of(told.name),
        "alerts": [
            {
                "id": None,
                "name": told.name,
                "subject": told.subject,
                "severity": "critical",
                "status": "resolved" if ended else "firing",
                "what": told.what,
                "fix": told.fix,
                "error_id": None,
                "since": since.isoformat(),
            }
        ],
    }
    return subject, "\n".join(line for line in lines if line), facts
