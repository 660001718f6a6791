"""Cursors of APIs: how changed records are requested."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Literal

from flows.declare.duration import parse_duration
from flows.kinds.api.declared import stamps
from flows.kinds.api.declared.stamps import EPOCHS, NAMED, RAW_TYPES
from flows.kinds.api.declared.windows import Span
from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path, plain_steps

Ordered = bool | Literal["desc"]


@dataclass(frozen=True, slots=True)
class Since:
    """An API's parameter for "changed since", and the record field it refers to.

        Since("updated_since", field="updated_at", lag="10 min")      ?updated_since=2026-01-31T09:50:00Z
        Since("_lastUpdated", field="meta.lastUpdated", prefix="ge")  ?_lastUpdated=ge2026-01-31T10:00:00Z, as FHIR
        Since("dateRanges.0.startDate", field="date", form="date", lag="3 days")   in a JSON body: "2026-01-28"
        Since("_since", field="last_modified", form="epoch_ms")       numbers in both places
        Since("start_time", field="updated_at", sent="epoch")         text in records, seconds in the parameter
        Since("from", field="day", form="%d.%m.%Y", sent="%Y%m%d", zone="Europe/Vienna")
        Since("since_id", field="id", form="number", ordered=True)    ascending numbers; "text" for ascending texts
        Since("", field="updated_at", ordered="desc")                 the API cannot filter, and sends the newest first
        Since("from", until="to", field="at", begin="2020-01-01", window="1 month")   month by month

    The next read starts at the latest `field` seen, minus `lag`; merging by key makes the overlap harmless.
    `field` is a path in a record; its last part, or `column`, names the column in raw. `ordered`: the API sorts by
    `field`, ascending, so that each group of pages may move the cursor; otherwise only the end of the list does.
    "desc": the newest come first.

    `form` is how `field` is written, `sent` how the parameter is, if in another way: `iso`, `date`, `epoch`,
    `epoch_ms`, `epoch_us`, `epoch_decimal`, or a pattern as of strftime. `digits` is the number of digits of fractions
    of seconds that are sent. `zone` is the time zone of stamps without an offset; its local time is sent. `prefix` and
    `suffix` are put around the value. Numbers and texts need an order: otherwise nothing says which have been read.

    Without a `parameter` every page is read, and records from before are dropped; with `ordered="desc"` reading stops
    at them. `begin` is where the first read starts. `until` is the parameter of the upper end, which is the time of
    the load. `window` and `cap` divide the time between both: see `Span`. `missing`: a record without a value is
    quarantined, or with "include" loaded, or with "exclude" dropped.
    """

    parameter: str
    field: str
    lag: str = "0 s"
    form: str = "iso"
    prefix: str = ""
    column: str = ""
    ordered: Ordered = False
    sent: str = ""
    digits: int | None = None
    zone: str = "UTC"
    suffix: str = ""
    begin: str = ""
    until: str = ""
    window: str = ""
    cap: int | None = None
    missing: Literal["quarantine", "include", "exclude"] = "quarantine"

    def __post_init__(self) -> None:
        where = f"cursor {self.field}"
        stamps.refuse_unknown(self.form, where)
        stamps.refuse_unknown(self.sent_form, where)
        stamps.zone_of(self.zone, where)
        if not self.column:
            object.__setattr__(self, "column", plain_steps(self.field)[-1])
        if self.digits is not None and not 0 <= self.digits <= 6:
            raise DeclarationError("digits must be 0 to 6", where=where, fix="write digits=3 for milliseconds")
        if self.missing not in ("quarantine", "include", "exclude"):
            raise DeclarationError(
                f"missing={self.missing!r} is unknown", where=where, fix="use quarantine, include or exclude"
            )
        if self.ordered not in (True, False, "desc"):
            raise DeclarationError(f"ordered={self.ordered!r} is unknown", where=where, fix='use True, False or "desc"')
        if self.is_time:
            parse_duration(self.lag, where)
        self._check(where)

    def _check(self, where: str) -> None:
        if not self.is_time and self.sent not in ("", self.form):
            raise DeclarationError(
                f"a {self.form} has no other form", where=where, fix="remove sent=, or correct form="
            )
        if not self.is_time and not self.ordered and self.parameter:
            raise DeclarationError(
                f"a {self.form} cursor of a list in no order does not say what has been read",
                where=where,
                fix='let the API sort by it, and write ordered=True, or ordered="desc"',
            )
        if not self.is_time and self.lag != "0 s" and not (self.form == "number" and self.lag.isdecimal()):
            raise DeclarationError(
                f"the lag {self.lag!r} is no distance between two values of the form {self.form}",
                where=where,
                fix='write a number for numbers, such as lag="100", and none for texts',
            )
        if not self.parameter and (self.until or self.window):
            raise DeclarationError(
                "without a parameter for the lower end, the upper end says nothing",
                where=where,
                fix="declare the first parameter of Since, or remove until, window and cap",
            )
        if (self.window or self.cap or self.until) and not self.is_time:
            raise DeclarationError("only times have an upper end", where=where, fix="remove until, window and cap")
        if self.begin:
            try:
                self.order(self.begin)
            except ValueError:
                raise DeclarationError(
                    f"begin={self.begin!r} is no value of the form {self.form}",
                    where=where,
                    fix="write it like 2020-01-01, or as the field's numbers",
                ) from None
        if (self.window or self.cap) and not (self.until and self.begin):
            raise DeclarationError(
                "windows need both ends, and a beginning",
                where=where,
                fix='declare until= and begin=, such as until="updated_before", begin="2020-01-01"',
            )
        if self.window:
            Span.parse(self.window, where)

    @property
    def is_time(self) -> bool:
        """Whether its values are points in time."""
        return self.form not in ("number", "text")

    @property
    def sent_form(self) -> str:
        """The form of the parameter."""
        return self.sent or self.form

    @property
    def time_zone(self) -> tzinfo:
        """The zone of stamps without an offset."""
        return stamps.zone_of(self.zone, f"cursor {self.field}")

    @property
    def is_windowed(self) -> bool:
        """Whether the time between both ends is divided."""
        return bool(self.window) or self.cap is not None

    @property
    def overlap(self) -> timedelta:
        """The lag as a timedelta."""
        return parse_duration(self.lag, f"cursor {self.field}") if self.is_time else timedelta(0)

    @property
    def raw_type(self) -> str:
        """The column's type in raw."""
        return RAW_TYPES.get(self.form, "timestamp with time zone")

    @property
    def has_pattern(self) -> bool:
        """Whether the field is written in a pattern."""
        return self.form not in NAMED

    def lower(self, reached: str) -> str:
        """The value to start from if `reached` is the latest known one: minus the lag, as a value of the column."""
        if self.form == "text":
            return reached
        if self.form == "number":
            return str(int(reached) - int(self.lag.removesuffix(" s")))
        if self.form in EPOCHS:
            return str(int(reached) - int(self.overlap.total_seconds() * EPOCHS[self.form]))
        if self.form == "epoch_decimal":
            return str(Decimal(reached) - Decimal(str(self.overlap.total_seconds())))
        moment = stamps.moment_of(reached, self.form, self.time_zone) - self.overlap
        # Rounded down to what is sent, and no further.
        by_day = self.sent_form == "date"
        return stamps.written(moment, "date" if by_day else "iso", self.time_zone if by_day else UTC, None)

    def written(self, value: str) -> str:
        """A value of the column as it is sent."""
        if not self.is_time or (self.sent_form == self.form and self.form in (*EPOCHS, "epoch_decimal")):
            text = value  # every digit of it
        else:
            moment = stamps.moment_of(value, self.form, self.time_zone)
            text = stamps.written(moment, self.sent_form, self.time_zone, self.digits)
        return f"{self.prefix}{text}{self.suffix}"

    @property
    def resolution(self) -> timedelta:
        """The smallest difference between two values as sent."""
        return stamps.resolution(self.sent_form, self.digits)

    def moment(self, value: str) -> datetime:
        """A value of the column as a point in time."""
        return stamps.moment_of(value, self.form, self.time_zone)

    def at(self, moment: datetime) -> str:
        """A timestamp as a value of the column, for comparisons."""
        if self.form in EPOCHS or self.form == "epoch_decimal":
            return stamps.written(moment, self.form, UTC, None)
        return moment.isoformat()

    def order(self, value: str | int) -> datetime | int | str:
        """A value of a record or of the column, for comparisons.

        Raises:
            ValueError: it is not of the declared form.
        """
        if self.form == "text":
            return str(value)
        if self.form == "number":
            return int(value)
        if self.has_pattern:
            with suppress(ValueError):
                moment = datetime.strptime(str(value), self.form)
                return moment if moment.tzinfo is not None else moment.replace(tzinfo=self.time_zone)
        return stamps.moment_of(str(value), self.form, self.time_zone)


@dataclass(frozen=True, slots=True)
class ChangeToken:
    """A token that the API returns with a list, and accepts for "changed since then".

    ChangeToken("syncToken", at="nextSyncToken")     in the body of the last page
    ChangeToken("_since", header="ETag")             in a header of the first page
    ChangeToken("", at='"@odata.deltaLink"')         a URL, which is requested as it is

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
