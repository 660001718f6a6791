"""What a kind of source can do whose changes are captured at the source: the part of `Kind` about capture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flows.declare.source import Source
from flows.kinds.answers import CaptureStatus, Step, TriggerStatus
from flows.publish.following import Following
from flows.values.errors import DeclarationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

S = TypeVar("S", bound=Source)


class Capturing(Generic[S]):
    """A kind without the ability keeps the methods that refuse it."""

    #: Whether changes are captured at the source, by its log or by triggers, which is set up and dropped there.
    captures: bool = False
    #: Whether `medallion capture setup` and `drop` ask before they run anything: applications notice triggers.
    asks_before_capture: bool = False

    def refuse_capture(self, source: S) -> None:
        """Refuse to look at the capture of a source that has none.

        Raises:
            DeclarationError: changes of the source are not captured.
        """
        raise DeclarationError(
            "the source has no capture",
            where=f"source {source.name}",
            fix="declare it with capture=Log() or capture=Triggers(): see docs/capture.md",
        )

    async def missing_capture(self, source: S, origin: Any) -> Sequence[Step]:
        """The statements at the source that are missing before changes can be captured. Changes nothing."""
        raise NotImplementedError  # refuse_capture comes first

    async def set_up_capture(self, source: S, origin: Any) -> Sequence[Step]:
        """Run what is missing, as far as the session's role may."""
        raise NotImplementedError  # refuse_capture comes first

    async def drop_capture(self, source: S, origin: Any) -> Sequence[Step]:
        """Undo it, as far as the session's role may. Raw stays as it is."""
        raise NotImplementedError  # refuse_capture comes first

    async def capture_status(
        self, warehouse: Connection[Record], source: S, origin: Any
    ) -> CaptureStatus | TriggerStatus:
        """The capture, and the position of each table: `CaptureStatus` or `TriggerStatus`. Changes nothing."""
        raise NotImplementedError  # refuse_capture comes first

    # -- changes as they happen

    def refuse_follow(self, source: S) -> None:
        """Refuse to follow a source that has no news to wait for.

        Raises:
            DeclarationError: the source can only be loaded.
        """
        raise DeclarationError(
            "the source cannot be followed",
            where=f"source {source.name}",
            fix="declare it with capture=Log(): see docs/changes.md; `medallion run` loads it",
        )

    async def follow(self, following: Following[S]) -> None:
        """Load changes as they happen, until `following` is over; each commit as in `load`.

        Raises:
            MedallionError: nothing can be followed until a person has acted. What was committed stays.
        """
        raise NotImplementedError  # refuse_follow comes first
