"""A game: the world is made, faults are made one after the other, and after each everything is looked at."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import httpx
import psycopg

from infra.gameday.fault import Fault, Overdue, Scene
from infra.gameday.faults import Planned
from infra.gameday.invariants import Reader, broken, restless
from infra.gameday.names import TABLES
from infra.gameday.outcome import EVENTS, Outcome, alerts_in
from infra.gameday.report import Report
from infra.gameday.world import World
from infra.gameday.writer import Writer
from infra.local.errors import ServiceFailed, StackError

Sabotage = Literal["row", "alert"]

#: The dead man's switch notices a watch after so long without a ping: it pings every two seconds.
_PING_SECONDS = 20.0
#: Of the game's own steps: a fault that cannot be made or ended is a problem of its line, and the game goes on.
_TROUBLE = (Overdue, psycopg.Error, httpx.HTTPError, StackError)
_SABOTAGES: dict[Sabotage, str] = {
    # Each game must notice these, or it would notice nothing: tests play them.
    "row": "delete from raw_game.events where event_id = (select min(event_id) from raw_game.events)",
    "alert": "alter table ops.loads disable trigger alerts",
}


@dataclass
class Game:
    """A game of planned faults. Seeds are those of the plan; `patience`: seconds that detecting or recovering
    takes at most, as the rounds of the watch measure them.

    If it is not passed, the logs of its programs, the messages that were received and all alerts and loads are kept in
    `logs`.
    """

    planned: Sequence[Planned]
    seed: int
    every_seconds: int = 30
    patience: float = 300.0
    sabotage: Sabotage | None = None
    progress: Callable[[str], None] = lambda _: None
    logs: Path | None = None
    _read: int = field(default=0, init=False)
    _passed: bool = field(default=False, init=False)

    def play(self) -> Report:
        """Play it.

        Raises:
            StackError: the world cannot be made.
        """
        began = datetime.now(UTC)
        chance = random.Random(self.seed)  # noqa: S311 # nosec B311 - to be repeatable, not a secret
        with World.made(every_seconds=self.every_seconds, progress=self.progress) as world, ExitStack() as ending:
            ending.callback(self._keep_logs, world)
            writer = Writer(world.source, world.api, chance)
            reader = Reader(world.warehouse, writer)
            scene = Scene(world, writer, chance, self.patience)
            for each in (writer, reader):
                ending.callback(each.stop)
                each.start()
            self.progress("waiting for the first loads")
            self._await_beginning(scene)
            outcomes = self._play_all(scene, reader)
            report = Report(
                began.isoformat(timespec="seconds"),
                self.seed,
                round((datetime.now(UTC) - began).total_seconds()),
                outcomes,
                commits=writer.ledger.commits,
                loads=int(world.warehouse.rows("select count(*) from ops.loads where status = 'published'")[0][0]),
                looks=reader.looks,
            )
            self._passed = report.passed
            return report

    def _await_beginning(self, scene: Scene) -> None:
        world = scene.world
        try:
            scene.until(lambda: self._loaded_since(world, 0.0), "the first load of each table")
            # Not before: a worker that has not begun yet is no fault.
            world.watch.start()
            scene.until(lambda: world.receiver.pinged_at > 0, "the first ping of the watch")
        except Overdue as problem:
            raise ServiceFailed(
                f"{problem} did not come within {self.patience:.0f} seconds",
                where="game day",
                fix=f"a busy machine needs longer: run it again{f'; logs are in {self.logs}' if self.logs else ''}",
                retryable=True,
            ) from None

    def _keep_logs(self, world: World) -> None:
        if self.logs is None or self._passed:
            return
        shutil.copytree(world.home / "logs", self.logs, dirs_exist_ok=True)
        messages = [{"at": each.at, "key": each.key, **each.content} for each in world.receiver.accepted]
        (self.logs / "messages.json").write_text(json.dumps(messages, indent=1, default=str))
        for table in ("alerts", "loads", "errors"):
            with suppress(psycopg.Error):
                rows = world.warehouse.rows(f"select to_jsonb(t) from ops.{table} as t order by 1")  # nosec B608
                (self.logs / f"{table}.json").write_text(json.dumps([row[0] for row in rows], indent=1, default=str))

    def _play_all(self, scene: Scene, reader: Reader) -> list[Outcome]:
        begin, outcomes = time.monotonic(), []
        for number, planned in enumerate(self.planned, 1):
            time.sleep(max(0.0, begin + planned.second - time.monotonic()))
            self.progress(f"{number}/{len(self.planned)} {planned.fault.name}")
            if self.sabotage == "alert" and number == 1:
                self._spoil(scene.world)
            outcome = self._play_one(scene, planned.fault, reader)
            outcomes.append(outcome)
            self.progress("  " + ("; ".join(outcome.problems) or "passed"))
        return outcomes

    def _spoil(self, world: World) -> None:
        assert self.sabotage is not None
        with world.warehouse.session() as connection:
            connection.execute(_SABOTAGES[self.sabotage])

    def _play_one(self, scene: Scene, fault: Fault, reader: Reader) -> Outcome:
        made, first, looks, rounds = time.time(), self._read, reader.looks, scene.rounds.count
        outcome = Outcome(fault.name, fault.what, fault.severity, datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            fault.make(scene)
            self._await_detection(scene, fault, first)
            if fault.must or fault.by_ping:
                outcome.detected_seconds = round(time.time() - made, 1)
                outcome.detected_rounds = scene.rounds.count - rounds
        except _TROUBLE as problem:
            outcome.problems.append(_named(problem))
        # After Ctrl-C the fault is not ended: what fails then would hide that the game is to stop.
        scene.writer.pause()  # all that is left to load is what came until the end
        try:
            scene.undo.close()
        except _TROUBLE as problem:
            outcome.problems.append(_named(problem))
        ended = time.time()
        outcome.lasted_seconds = round(ended - made, 1)
        try:
            scene.until(lambda: self._recovered(scene.world, fault, ended, first), "everything is well again")
            outcome.recovered_seconds = round(time.time() - ended, 1)
        except Overdue as problem:
            outcome.problems.append(_named(problem))
        self._look(scene, reader, outcome, ended)
        if reader.looks == looks or not scene.writer.lives():
            outcome.problems.append("the game's own reader or application did not work")
        messages = scene.world.receiver.accepted[first:]
        self._read = first + len(messages)
        outcome.add_alerts(fault, messages)
        return outcome

    def _await_detection(self, scene: Scene, fault: Fault, first: int) -> None:
        receiver = scene.world.receiver
        if fault.by_ping:
            scene.until(lambda: time.time() - receiver.pinged_at > _PING_SECONDS, "the dead man's switch notices")
            return

        def detected() -> bool:
            raised = [alert for alert, each in alerts_in(receiver.accepted[first:]).items() if each.ids]
            return all(any(fnmatchcase(alert, pattern) for alert in raised) for pattern in fault.must)

        scene.until(detected, f"an alert `{', '.join(fault.must)}` is received")
        # Long enough for a run or two, so that an alert that is sent again would be seen.
        time.sleep(fault.seconds or scene.chance.uniform(2, self.every_seconds))

    def _recovered(self, world: World, fault: Fault, ended: float, first: int) -> bool:
        """Each table was loaded since, all alerts are over, and their ends were sent."""
        open_ones = [
            alert for alert, each in alerts_in(world.receiver.accepted[first:]).items() if each.ids - each.ended
        ]
        if open_ones or world.receiver.pinged_at <= ended:
            return False
        try:
            return self._loaded_since(world, ended) and not world.warehouse.rows(
                "select 1 from ops.alerts where resolved_at is null and severity <> 'info' and name <> all(%s) "
                "union all select 1 from ops.alert_messages where sent_at is null and dropped_at is null",
                [*EVENTS],
            )
        except psycopg.Error:
            return False

    def _look(self, scene: Scene, reader: Reader, outcome: Outcome, ended: float) -> None:
        """Wait until nothing is left to load, and look at the invariants."""
        world, writer, seen = scene.world, scene.writer, len(reader.seen)
        try:
            # An API's list that failed is read on from where it failed: what changed before that takes a load more.
            scene.until(
                lambda: self._loaded_since(world, ended, times=2) and not restless(world),
                "two loads of each table, the last one without news",
            )
        except Overdue as problem:
            outcome.problems.append(_named(problem))
        try:
            if self.sabotage == "row":  # not before: loads notice that raw lacks a row, and read it again
                self._spoil(world)
            found = broken(world, writer)
            outcome.problems += [f"{name}: {what}" for name, all_of in found.items() for what in all_of]
        except psycopg.Error as problem:
            outcome.problems.append(_named(problem))
        finally:
            writer.resume()
        outcome.problems += [f"I6: {what}" for what in reader.seen[seen:]]

    def _loaded_since(self, world: World, since: float, times: int = 1) -> bool:
        """Whether each table has so many published loads that began since then."""
        try:
            rows = world.warehouse.rows(
                "select source_system || '.' || table_name, count(*) from ops.loads "
                "where status = 'published' and started_at > to_timestamp(%s) group by 1",
                since,
            )
        except psycopg.Error:  # no schema yet, or the warehouse is about to come back
            return False
        loads = dict(rows)
        return all(loads.get(table, 0) >= times for table in TABLES)


def _named(problem: Exception) -> str:
    """A problem of the game itself, without the messages of others, which may hold values."""
    if isinstance(problem, Overdue):
        return f"not in time: {problem}"
    if isinstance(problem, StackError):
        return str(problem)
    if not isinstance(problem, psycopg.Error):
        return type(problem).__name__
    return f"{type(problem).__name__} ({problem.sqlstate or 'no SQLSTATE'})"
