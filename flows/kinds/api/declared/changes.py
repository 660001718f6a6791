"""Cursors of APIs: how changed records are requested."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path, plain_steps


@dataclass(frozen=True, slots=True)
class Since:
    """An API's parameter for "changed since", and the record field it refers to.

        Since("updated_since", field="updated_at", lag="10 min")      ?updated_since=2026-01-31T09:50:00Z
        Since("_lastUpdated", field="meta.lastUpdated", prefix="ge")  ?_lastUpdated=ge2026-01-31T10:00:00Z, as FHIR
        Since("dateRanges.0.startDate", field="date", form="date", lag="3 days")   in a JSON body: "2026-01-28"
        Since("_since", field="last_modified", form="epoch_ms")       numbers in both places

    The next read starts at the latest `field` seen, minus `lag`; merging by key makes the overlap harmless.
    `field` is a path in a record; its last part, or `column`, names the column in raw. `ordered`: the API sorts by
    `field`, ascending, so that each group of pages may move the cursor; otherwise only the end of the list does.
    """

    parameter: str
    field: str
    lag: str = "0 s"
    form: Literal["iso", "date", "epoch", "epoch_ms"] = "iso"
    prefix: str = ""
    column: str = ""
    ordered: bool = False

    def __post_init__(self) -> None:
        parse_duration(self.lag, f"cursor {self.field}")
        if not self.column:
            object.__setattr__(self, "column", plain_steps(self.field)[-1])

    @property
    def overlap(self) -> timedelta:
        """The lag as a timedelta."""
        return parse_duration(self.lag, f"cursor {self.field}")

    @property
    def raw_type(self) -> str:
        """The column's type in raw."""
        return "bigint" if self.form.startswith("epoch") else "timestamp with time zone"

    def lower(self, reached: str) -> str:
        """The parameter's value if `reached` is the latest known value: `reached` minus the lag, in that form."""
        if self.form.startswith("epoch"):
            scale = 1000 if self.form == "epoch_ms" else 1
            return str(int(reached) - int(self.overlap.total_seconds() * scale))
        moment = datetime.fromisoformat(reached).astimezone(UTC) - self.overlap
        return f"{moment:%Y-%m-%d}" if self.form == "date" else moment.isoformat().replace("+00:00", "Z")

    def at(self, moment: datetime) -> str:
        """A timestamp as a value of the column, for comparisons."""
        if self.form.startswith("epoch"):
            return str(int(moment.timestamp() * (1000 if self.form == "epoch_ms" else 1)))
        return moment.isoformat()


@dataclass(frozen=True, slots=True)
class ChangeToken:
    """A token that the API returns with a list, and accepts for "changed since then".

    ChangeToken("syncToken", at="nextSyncToken")     in the body of the last page
    ChangeToken("_since", header="ETag")             in a header of the first page

    It is stored when the full list has been published. If the API no longer accepts it (410), the full list is read.
    """

    parameter: str
    at: str = ""
    header: str = ""

    def __post_init__(self) -> None:
        if bool(self.at) == bool(self.header):
            raise DeclarationError(
                "a change token is either in the body or in a header",
                where=f"cursor {self.parameter}",
                fix='write ChangeToken("syncToken", at="nextSyncToken") or ChangeToken("_since", header="ETag")',
            )
        parse_path(self.at)
