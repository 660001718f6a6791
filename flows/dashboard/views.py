"""Templates, and how values are written in them: escaped, visible, times with their zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from flows.dashboard.guard import asked
from flows.observe import look
from flows.values.settings import settings
from flows.values.visible import visible

HERE = Path(__file__).parent
#: What stands where there is no value.
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one set of bars of a chart. `unit` is appended to its numbers; `form` is how they are written."""

    name: str
    unit: str = ""
    form: str = "number"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its table: the page has the table, and the script draws the chart from it.

    `kind` is `line` or `bars`. `rows` begin with a day or a label, then one number (or None) per series.
    """

    title: str
    over: str
    series: Sequence[Series]
    rows: Sequence[Sequence[Any]]
    kind: str = "line"
    note: str = ""


def _finalize(value: Any) -> Any:
    # A name may hold marks that turn the direction of all that follows; escaping is Jinja's part.
    return visible(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _time(moment: datetime | None) -> Markup:
    """A time in UTC; the page's script writes it in the reader's zone, with UTC in the title."""
    if moment is None:
        return escape(NOTHING)
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{} UTC</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S}", f"{utc:%Y-%m-%d %H:%M}"
    )


def _ago(moment: datetime | None, now: datetime) -> Markup:
    """How long ago, with the time in the title."""
    if moment is None:
        return Markup("never")
    seconds = (now - moment).total_seconds()
    words = f"{look.ago(seconds)} ago" if seconds >= 0 else f"in {look.ago(-seconds)}"
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC" data-keep>{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S}", words
    )


def _lasting(moment: datetime, now: datetime) -> Markup:
    """For how long something has been so."""
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" title="since {} UTC" data-keep>for {}</time>').format(
        utc.isoformat(timespec="seconds"),
        f"{utc:%Y-%m-%d %H:%M:%S}",
        look.ago(max(0.0, (now - moment).total_seconds())),
    )


def _code(text: str) -> Markup:
    """A text in which `commands` are set as such."""
    parts = visible(text, lines=True).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def _money(value: Any) -> str:
    """`$1,234.50`, with the sign before the currency."""
    if value is None:
        return NOTHING
    return f"{'-' if value < 0 else ''}${abs(float(value)):,.2f}"


def _seconds(value: float | None) -> str:
    """`0.4 s`, `12 s`, `4 min`, `2:05 h`."""
    if value is None:
        return NOTHING
    value = float(value)
    return f"{value:.1f} s" if value < 10 else look.ago(value)


def _number(value: Any) -> str:
    """`12,345`, `0.25`, or a dash if there is none."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{float(value):,.2f}"


def _size(value: float | None) -> str:
    """Bytes: `12 kB`, `3.4 MB`."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{float(value):.1%}"


def _plain(value: Any) -> Any:
    """Any value of a table as a person reads it."""
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float) or hasattr(value, "as_tuple"):
        return _number(value)
    return str(value)


_FORMS = {"number": _number, "seconds": _seconds, "size": _size, "share": _share}


def _formed(value: Any, form: str) -> str:
    return _FORMS[form](value)


def link(path: str, **query: Any) -> str:
    """An address with its query quoted."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def environment() -> Environment:
    """The templates' environment. A name that a template does not get is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "time": _time, "ago": _ago, "lasting": _lasting, "seconds": _seconds, "number": _number, "size": _size,
        "share": _share, "money": _money, "plain": _plain, "code": _code, "formed": _formed,
    }  # fmt: skip
    made.globals |= {"link": link}
    return made


_ENVIRONMENT = environment()


def page(request: Request, template: str, title: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page. Its template gets `person`, `csrf`, `now` and the menu beside the values."""
    found = asked(request)
    given = {
        "title": title,
        "person": found.person,
        "csrf": found.csrf,
        "now": datetime.now(UTC),
        "path": request.url.path,
        "environment": settings().environment,
        "menu": request.app.state.menu(found.person) if "app" in request.scope else (),
    }
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(given | values), status_code=status)
