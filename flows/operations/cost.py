"""What tables, models and runs cost: used time, bytes, requests and storage, by the declared prices.

The whole is what the period cost. Each line has the part that is known to be its own; what is left, such as the time in
which a run only starts or waits, and servers that run anyway, is a line of its own. So the lines always add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from flows.values.price import Price

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Runs whose time is that of loads, by source; and those whose time is that of models.
_OF_TABLES, _OF_MODELS = "ingest", ("transform", "release")
UNATTRIBUTED = "unattributed"
Kind = Literal["table", "model", "run", "storage", "unattributed"]

_USED = """
select kind, scope, name, sum(times)::bigint as times, sum(seconds) as seconds, sum(bytes)::bigint as bytes,
    sum(requests)::bigint as requests
from ops.usage_days where day >= $1 and day < $2 group by kind, scope, name
"""
_USED_BY_DAY = """
select day, scope, coalesce(sum(seconds) filter (where kind = 'run'), 0) as seconds,
    coalesce(sum(bytes) filter (where kind = 'load'), 0)::bigint as bytes,
    coalesce(sum(requests) filter (where kind = 'load'), 0)::bigint as requests
from ops.usage_days where day >= $1 and day < $2 group by day, scope
"""
# With indexes and TOAST. Raw tables are found by their source, models by their name, in whatever schema they are.
_STORED = """
select n.nspname as schema, c.relname as name, pg_total_relation_size(c.oid) as bytes
from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
"""


@dataclass(slots=True)
class Line:
    """What one table, model or run used and cost in the period. Its parts are `of_…`."""

    kind: Kind
    name: str
    times: int = 0
    seconds: float = 0.0
    bytes: int = 0
    stored: int = 0
    of_time: float = 0.0
    of_bytes: float = 0.0
    of_storage: float = 0.0
    fixed: float = 0.0
    before: float | None = None
    requests: int = 0
    of_requests: float = 0.0

    @property
    def source(self) -> str:
        """The source of a table; empty for anything else."""
        return self.name.partition(".")[0] if self.kind == "table" else ""

    @property
    def cost(self) -> float:
        """In the currency of the prices."""
        return self.of_time + self.of_bytes + self.of_requests + self.of_storage + self.fixed


@dataclass(frozen=True, slots=True)
class Costs:
    """The whole of a period and its lines, the most expensive first; `before`: the whole of the period before."""

    since: date
    until: date
    whole: float
    before: float
    lines: Sequence[Line] = field(default_factory=tuple)


async def costs_by_day(
    connection: Connection[Record], until: date, days: int, price: Price
) -> list[tuple[date, float]]:
    """What runs, bytes, requests and fixed prices cost on each day before `until`, without storage."""
    since = until - timedelta(days=days)
    used: dict[date, float] = defaultdict(float)
    for row in await connection.fetch(_USED_BY_DAY, since, until):
        used[row["day"]] += price.cost(row["bytes"], row["requests"], row["seconds"], row["scope"])
    return [(day, used[day] + price.per_day) for day in (since + timedelta(days=number) for number in range(days))]


async def costs(connection: Connection[Record], until: date, days: int, price: Price) -> Costs:
    """Those of `days` days before `until`, which itself does not count, compared with as many days before them.

    Storage counts as it is now, in both periods alike: of its past nothing is kept.
    """
    since = until - timedelta(days=days)
    stored = await connection.fetch(_STORED)
    size = int(await connection.fetchval("select pg_database_size(current_database())"))
    now = _lines(await connection.fetch(_USED, since, until), stored, size, days, price)
    earlier = await connection.fetch(_USED, since - timedelta(days=days), since)
    then = {(line.kind, line.name): line.cost for line in _lines(earlier, stored, size, days, price)}
    for line in now:
        line.before = then.get((line.kind, line.name), 0.0) if earlier else None
    return Costs(since, until, sum(line.cost for line in now), sum(then.values()), now)


def _lines(used: Sequence[Record], stored: Sequence[Record], size: int, days: int, price: Price) -> list[Line]:
    lines: dict[tuple[Kind, str], Line] = {}
    runs: dict[str, float] = defaultdict(float)
    parts: dict[str, list[Line]] = defaultdict(list)
    for row in used:
        if row["kind"] == "run":
            runs[_group_of_run(row)] += row["seconds"]
            if row["name"] != _OF_TABLES and row["name"] not in _OF_MODELS:
                named = " ".join((row["name"], row["scope"])).strip()
                parts[_group_of_run(row)].append(lines.setdefault(("run", named), Line("run", named)))
                _add(lines["run", named], row)
            continue
        kind: Kind = "table" if row["kind"] == "load" else "model"
        name = f"{row['scope']}.{row['name']}" if kind == "table" else str(row["name"])
        line = lines.setdefault((kind, name), Line(kind, name))
        _add(line, row)
        parts[f"{_OF_TABLES} {row['scope']}" if kind == "table" else "models"].append(line)
    _attribute_time(runs, parts, price)
    known = _attribute_storage(lines, stored, days, price)
    for line in lines.values():
        line.of_bytes = price.cost(size=line.bytes)
        line.of_requests = price.cost(requests=line.requests, source=line.source)
    rest = Line("unattributed", UNATTRIBUTED, stored=size - known, fixed=price.per_day * days)
    rest.seconds = sum(runs.values()) - sum(min(runs[name], _sum(group)) for name, group in parts.items())
    rest.of_time = price.cost(seconds=sum(runs.values())) - sum(line.of_time for line in lines.values())
    rest.of_storage = _of_storage(rest.stored, days, price)
    return [*sorted(lines.values(), key=lambda line: (-line.cost, line.name)), rest]


def _group_of_run(row: Record) -> str:
    """The runs among whose loads or models their time is divided."""
    if row["name"] == _OF_TABLES:
        return f"{_OF_TABLES} {row['scope']}"
    return "models" if row["name"] in _OF_MODELS else f"{row['name']} {row['scope']}"


def _add(line: Line, row: Record) -> None:
    line.times += row["times"]
    line.seconds += row["seconds"]
    line.bytes += row["bytes"]
    line.requests += row["requests"]


def _attribute_time(runs: dict[str, float], parts: dict[str, list[Line]], price: Price) -> None:
    """Loads and models of one run overlap, so together they have no more than the run's time; each its share of it."""
    for name, group in parts.items():
        together = _sum(group)
        share = min(1.0, runs[name] / together) if together else 0.0
        for line in group:
            line.of_time = price.cost(seconds=line.seconds * share)


def _attribute_storage(lines: dict[tuple[Kind, str], Line], stored: Sequence[Record], days: int, price: Price) -> int:
    """The bytes that belong to lines or to schemas; the rest are the catalogue and free space."""
    for row in stored:
        line = _owner(lines, row["schema"], row["name"])
        line.stored += row["bytes"]
    for line in lines.values():
        line.of_storage = _of_storage(line.stored, days, price)
    return sum(line.stored for line in lines.values())


def _owner(lines: dict[tuple[Kind, str], Line], schema: str, name: str) -> Line:
    """The table or model that a relation belongs to; what was not used in the period is storage of its schema."""
    if schema.startswith("raw_") and (line := lines.get(("table", f"{schema.removeprefix('raw_')}.{name}"))):
        return line
    if not schema.startswith("raw_") and (line := lines.get(("model", name))):
        return line
    return lines.setdefault(("storage", f"other tables of {schema}"), Line("storage", f"other tables of {schema}"))


def _of_storage(size: int, days: int, price: Price) -> float:
    return size / 1e9 * price.per_gb_month * days / 30


def _sum(group: Iterable[Line]) -> float:
    return sum(line.seconds for line in group)
