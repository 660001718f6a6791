"""Is the Prefect server up? One that is slow, because its machine is busy, is not one that is down.

refused, error, wrong credentials        down, at once
silent, its /health as well              down, at once
silent, its /health responds             slow: reported once it has lasted for several rounds
responds again after it was silent       over after two rounds: one response of a server that struggles is no end
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from flows.operations.alerts import Condition
from flows.operations.checks.names import PREFECT_DOWN
from flows.operations.prefect_api import PrefectDown
from flows.operations.prefect_facts import PrefectFacts, PrefectReader

SUBJECT = "Prefect server"
#: All questions of a round. A server that is not busy needs 0.2 s.
_SECONDS = 20.0
#: Rounds of up to 30 s each: a deployment of all, or a vacuum of its database, is over by then.
_SLOW_ROUNDS = 6
_GOOD_ROUNDS = 2


@dataclass(slots=True)
class PrefectProbe:
    """Asks the server once per round, and judges what it says. `found`: the alert to raise, if there is one."""

    reader: PrefectReader
    found: list[Condition] = field(default_factory=list, init=False)
    _slow: int = field(default=0, init=False)
    #: Of the good rounds that are still needed until a silence is over.
    _wanting: int = field(default=0, init=False)

    async def look(self, now: datetime) -> PrefectFacts | None:
        """What the server says; None if it says nothing that is of use."""
        try:
            async with asyncio.timeout(_SECONDS):
                facts = await self.reader.read(now)
        except PrefectDown as problem:
            await self._judge(problem.what, problem.fix, silent=problem.silent)
        except TimeoutError:
            fix = "read its log: its database may be slow"
            await self._judge(f"does not respond within {_SECONDS:.0f} s", fix, silent=True)
        except (KeyError, TypeError, ValueError) as problem:
            what = f"gives answers that cannot be read ({type(problem).__name__})"
            await self._judge(what, "use the locked version", silent=False)
        else:
            self._slow = 0
            self._wanting = max(0, self._wanting - 1)
            if not self._wanting:
                self.found = []
            return facts
        return None

    async def _judge(self, what: str, fix: str, *, silent: bool) -> None:
        slow = silent and await self._is_healthy()
        self._slow = self._slow + 1 if slow else 0
        await self.reader.api.close()  # so that the next one is proven to be ours again
        if slow and self._slow < _SLOW_ROUNDS:
            return  # what was found before stays
        if slow:
            what, fix = (
                f"{what}, although its /health responds",
                "it is overloaded, or its database is slow: read its log",
            )
        # One that was refused is either up or not.
        self._wanting = _GOOD_ROUNDS if silent else 1
        self.found = [Condition(PREFECT_DOWN, SUBJECT, "critical", what, fix, cause="prefect: unavailable")]

    async def _is_healthy(self) -> bool:
        try:
            await self.reader.api.ask("/health")
        except PrefectDown:
            return False
        return True
