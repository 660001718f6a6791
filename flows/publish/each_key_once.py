"""One row per key in the landing table: copies are set aside or refused, and repeats of a read are dropped.

Searching copies takes a scan of the landing table. PostgreSQL notices them at no cost where an index on the key is made
anyway (a first load, a replace); a unique index at the source excludes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.declare import Append, Merge, Rule
from flows.landing.table import Target
from flows.publish.session import LoadSession
from flows.publish.staged import Staged
from flows.quality import duplicates, open_rows, quarantine
from flows.quality.duplicates import Copies
from flows.quality.open_rows import KEY_NOT_UNIQUE
from flows.quality.rules import Survey, judge, survey
from flows.values.errors import WarehouseError


def refuse_short_landing(landed: int, expected: int, target: Target) -> None:
    """Raises:
    WarehouseError: rows that were staged are no longer in the landing table, or others are.
    """
    if landed != expected:
        raise WarehouseError(
            f"the landing table has {landed} rows, and {expected} were staged; nothing was published",
            where=target.where,
            fix=f"the load is retried, and reads again what is missing; nothing else may write to {target.landing}",
            retryable=True,
        )


@dataclass(slots=True)
class EachKeyOnce:
    """Ensures that no two rows of the landing table have one key. `is_broken`: two rows are known to have one.

    `rules` are the row checks of the load.
    """

    session: LoadSession
    staged: Staged
    rules: tuple[Rule, ...]
    is_broken: bool = False

    @property
    def _copies(self) -> Copies:
        staged = self.staged
        newest = staged.on_duplicate == "newest"
        landing = self.session.target.landing
        return Copies(landing, staged.shape, staged.key_types, staged.cursor, newest, staged.may_repeat)

    async def look(self, landed: Survey) -> None:
        """Search copies, unless PostgreSQL will notice them or the source excludes them."""
        staged = self.staged
        if not staged.keys or (staged.unique_at_source and not staged.may_repeat):
            return
        # A copy that breaks another rule would leave before an index is made, and the other would seem to be the only.
        unnoticed = isinstance(staged.load, Merge | Append) and not staged.first
        if unnoticed or landed.broken or staged.may_repeat:
            self.is_broken = await duplicates.exist(self.session.warehouse, self._copies)

    async def judge(self, landed: Survey, copies: int = 0, known: int = 0) -> None:
        """Accept the rows that break a rule for quarantine, or stop the load.

        Raises:
            DataRefused: there are more of them than the table tolerates. Nothing was published.
        """
        staged, target = self.staged, self.session.target
        broken = dict(landed.broken)
        if copies:
            broken[KEY_NOT_UNIQUE] = copies
        for record in staged.unreadable:
            rule = "payload_readable" if record.rule.startswith("payload_") else record.rule
            broken[rule] = broken.get(rule, 0) + 1
        if broken:
            known += await self._count_known()
        judge(broken, staged.rows_read, staged.tolerance, where=target.where, landing=target.landing, known=known)

    async def _count_known(self) -> int:
        staged, target, warehouse = self.staged, self.session.target, self.session.warehouse
        known = await quarantine.count_known(
            warehouse, target.landing, staged.shape, self.rules, staged.keys, table=target.name
        )
        if staged.unreadable:
            known += await quarantine.count_known_unreadable(
                warehouse, staged.unreadable, staged.keys, table=target.name
            )
        return known

    async def ensure(self, landed: Survey) -> tuple[int, int, Survey]:
        """Drop repeats and set copies aside, in the publishing transaction; returns how many of each, and a new survey.

        Raises:
            DataRefused: there are more copies than the table tolerates. Nothing was published.
        """
        staged, session, table = self.staged, self.session, self.session.target.name
        kept = f"q.rule = '{KEY_NOT_UNIQUE}'"
        known_before = bool(staged.keys) and await open_rows.count_open(session.warehouse, table=table, within=kept)
        if not self.is_broken and not known_before:
            return 0, 0, landed
        repeats = 0
        if self.is_broken and staged.may_repeat:
            repeats = await duplicates.drop_repeats(session.warehouse, self._copies)
        if self.is_broken and staged.drops_copies:
            repeats += await duplicates.keep_newest(session.warehouse, self._copies)
        aside = await duplicates.set_aside(
            session.warehouse,
            self._copies,
            table=table,
            batch_id=session.batch_id,
            read=staged.quarantine_within if staged.is_complete else None,
        )
        landed = await survey(session.warehouse, session.target.landing, self.rules, staged.keys)
        if self.is_broken or aside.rows:
            await self.judge(landed, aside.rows, aside.known)
        return repeats, aside.rows, landed
