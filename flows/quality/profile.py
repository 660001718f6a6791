"""What the rows of a load look like, column by column: nulls, distinct values, quantiles, and shares of categories.

One statement over the landing table, which holds the rows of this load and no others; of a large one a sample of its
pages. What is stored tells nothing of a single row:

    texts, keys     how long they are; shares of rows by 16 buckets of a seeded hash, which many values share
    numbers         quantiles, rounded to three digits
    times           quantiles of their age at the load, in hours, rounded to three digits
    personal        columns of declared persons and masked ones: only the null share

A column with fewer than 20 values in a load has no distribution.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import asyncpg

from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Fewer values would tell of single rows.
FEWEST_VALUES = 20
#: A quantile every twentieth: the least, 0.05, …, 0.95, the greatest.
QUANTILES = 21
#: Buckets of the hash.
BUCKETS = 16
# With more different values all buckets are alike, whatever happens to the values.
_MOST_CATEGORIES = 256
# Columns of a table, and fields of its records, beyond these are not profiled: the cost is per column.
_MOST_COLUMNS = 60
_MOST_FIELDS = 40
#: The column of raw that holds records as they were sent.
_RECORD = "payload"
# Names of fields are no values, except where records use values as names: those are rarely in many records, and seldom
# look like a name.
_FIELDS = f"""
select
    k.key as name,
    array_agg(distinct jsonb_typeof(p.payload -> k.key)) filter (where p.payload -> k.key <> 'null') as kinds
from (select payload from {{landing}} where jsonb_typeof(payload) = 'object' limit 200) as p
cross join lateral jsonb_object_keys(p.payload) as k (key)
where k.key ~ '^[A-Za-z_][A-Za-z0-9_]{{{{0,40}}}}$'
group by k.key
having count(*) >= 5
order by count(*) desc, k.key
limit {_MOST_FIELDS}
"""

_NUMBER = re.compile(r"(smallint|integer|bigint|numeric|real|double precision)\b")
_TIME = re.compile(r"(timestamp|date)\b")
_TEXT = re.compile(r"(text|character|bpchar|citext)\b")
_CATEGORY = re.compile(r'(boolean\b|uuid\b|".+"\.".+"$)')  # an enum's type is quoted, with its schema
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Profiling:
    """How a table's loads are profiled: at most `rows` of them, and only nulls of the columns in `nulls_only`.

    `nulls_only` has names of columns and fields, `payload.status` for a field alone, and may be patterns.
    """

    rows: int
    nulls_only: frozenset[str] = frozenset()

    def only_nulls(self, *names: str) -> bool:
        """Whether one of the names is among `nulls_only`."""
        # As it is first: a column may be called `a[b]`.
        return any(name == each or fnmatchcase(name, each) for name in names for each in self.nulls_only)


@dataclass(frozen=True, slots=True)
class Profiled:
    """One column of a profile. `kind` is what its quantiles are of; `expression` is SQL over the landing table.

    `field` is the field of the record that it is, over `r`.
    """

    name: str
    expression: str
    kind: str
    is_key: bool = False
    field: str | None = None

    @property
    def measured(self) -> str | None:
        """SQL over the sample's column `v`: the number that quantiles are of. None: it has none."""
        match self.kind:
            case "number":  # beyond these, and NaN, a real has no place for it
                return "case when v > -1e37 and v < 1e37 then v::double precision end"
            case "age":
                return (
                    "case when isfinite(v) then (extract(epoch from now()) - extract(epoch from v))::float8 / 3600 end"
                )
            case "length":
                return "length(v::text)::double precision"
            case "size":
                return "pg_column_size(v)::double precision"
            case _:
                return None

    @property
    def is_counted(self) -> bool:
        """Whether distinct values are counted: those of times and documents say nothing."""
        return self.kind in ("number", "length", "category")


def profiled_columns(shape: Shape, keys: Sequence[str], profiling: Profiling) -> list[Profiled]:
    """A table's columns, as they are profiled."""
    found = []
    for column in shape.columns[:_MOST_COLUMNS]:
        kind = "nulls" if profiling.only_nulls(column.name) else _kind(column.raw_type)
        found.append(Profiled(column.name, "l." + quote_identifier(column.name), kind, column.name in keys))
    return found


def _kind(raw_type: str) -> str:
    if raw_type.endswith("[]"):
        return "size"
    if _NUMBER.match(raw_type):
        return "number"
    if _TIME.match(raw_type):
        return "age"
    if _TEXT.match(raw_type):
        return "length"
    return "category" if _CATEGORY.match(raw_type) else "size"


async def _record_fields(
    connection: Connection[Record], landing: str, shape: Shape, profiling: Profiling
) -> list[Profiled]:
    """The fields of records, if the table has any: each is profiled like a column, as `payload.status`."""
    column = shape.column(_RECORD)
    if column is None or column.raw_type != "jsonb" or column.nullable or profiling.only_nulls(_RECORD):
        return []
    found = []
    for row in await connection.fetch(_FIELDS.format(landing=landing)):
        name, kinds = row["name"], set(row["kinds"] or ())
        value = f"r.{quote_identifier(name)}"
        kind, expression = "length", f"({value} #>> '{{}}')"
        if kinds == {"number"}:
            kind, expression = "number", f"case jsonb_typeof({value}) when 'number' then {value}::numeric end"
        elif kinds == {"boolean"}:
            kind = "category"
        elif kinds - {"string", "number", "boolean"}:
            kind, expression = "size", f"nullif({value}, 'null')"
        full_name = f"{_RECORD}.{name}"
        kind = "nulls" if profiling.only_nulls(name, full_name) else kind
        found.append(Profiled(full_name, expression, kind, field=name))
    return found


async def write_profile(
    connection: Connection[Record],
    landing: str,
    shape: Shape,
    keys: Sequence[str],
    rows: int,
    batch_id: int,
    profiling: Profiling,
) -> None:
    """Profile the landing table's rows into `ops.profiles`, within the transaction of the load.

    What cannot be profiled is left out: a load never fails because of it.
    """
    columns = profiled_columns(shape, keys, profiling)
    if rows <= 0 or not profiling.rows or not columns:
        return
    try:
        async with connection.transaction():
            columns += await _record_fields(connection, landing, shape, profiling)
            await connection.execute(statement(landing, columns, rows, profiling.rows), batch_id)
    except (asyncpg.DataError, asyncpg.SyntaxOrAccessError, asyncpg.FeatureNotSupportedError) as problem:
        # Its text may quote a value.
        _log.warning("batch %s: its rows could not be profiled (%s)", batch_id, type(problem).__name__)


def statement(landing: str, columns: Sequence[Profiled], rows: int, most: int) -> str:
    """SQL that profiles a landing table of so many rows, for the load `$1`."""
    # By pages. A profile of 15 columns costs some 10 µs of a core per row: 60 ms at most with the default.
    part = f" tablesample system ({100 * most / rows:.6f})" if rows > 1.2 * most else ""
    fields = [quote_identifier(each.field) + " jsonb" for each in columns if each.field is not None]
    if fields:  # all of a record's fields in one pass
        part += (
            f" cross join lateral jsonb_to_record(case jsonb_typeof(l.{_RECORD}) when 'object' then l.{_RECORD} "
            f"else '{{}}' end) as r ({', '.join(fields)})"
        )
    sampled = ", ".join(f"{each.expression} as c{place}" for place, each in enumerate(columns))
    facts = " union all ".join(_facts(place, each) for place, each in enumerate(columns))
    counted = [place for place, each in enumerate(columns) if each.is_counted]
    hashes = " union all ".join(_hashes(place) for place in counted) or _hashes(0) + " having false"
    names = ", ".join(
        f"({place}, {quote_literal(each.name)}, {quote_literal(each.kind)})" for place, each in enumerate(columns)
    )
    return f"""
with sample as materialized (select {sampled} from {landing} as l{part}),
facts as ({facts}),
times as materialized ({hashes}),
counted as (
    select place, count(*) as different, count(*) filter (where times = 1) as once, sum(times) as present
    from times group by place
),
shares as (
    select place, array_agg(share order by bucket) as shares from (
        select c.place, b.bucket, (coalesce(sum(t.times), 0) / c.present)::real as share
        from counted as c
        cross join generate_series(0, {BUCKETS - 1}) as b (bucket)
        left join times as t on t.place = c.place and (t.hash & {BUCKETS - 1}) = b.bucket
        where c.different <= {_MOST_CATEGORIES} and c.present >= {FEWEST_VALUES}
        group by c.place, b.bucket, c.present
    ) as each group by place
)
insert into ops.profiles (source_system, table_name, column_name, batch_id, strategy, kind, rows, sampled, null_share,
    distinct_values, quantiles, shares)
select
    l.source_system, l.table_name, n.name, l.batch_id, l.strategy, n.kind, {rows}, f.rows,
    (f.rows - f.present)::real / f.rows,
    -- Of a sample, the estimate of ANALYZE (Haas and Stokes, 1998).
    case when c.different is null then null when f.rows >= {rows} or c.once = 0 then c.different
        else least(round(c.present * c.different::numeric
            / (c.present - c.once + c.once * f.rows::numeric / {rows})), {rows})
    end,
    case when f.present >= {FEWEST_VALUES} then (
        select array_agg(case when abs(q) < 1e-37 then 0 else round(q::numeric, 2 - floor(log(abs(q)))::int) end::real
            order by at)
        from unnest(f.quantiles) with ordinality as u (q, at)
    ) end,
    s.shares
from ops.loads as l
cross join (values {names}) as n (place, name, kind)
inner join facts as f on f.place = n.place
left join counted as c on c.place = n.place
left join shares as s on s.place = n.place
where l.batch_id = $1 and f.rows > 0"""


def _facts(place: int, column: Profiled) -> str:
    quantiles = "null::double precision []"
    # A key's values only grow.
    if column.measured is not None and not (column.is_key and column.kind == "number"):
        steps = ", ".join(f"{step / (QUANTILES - 1):g}" for step in range(QUANTILES))
        quantiles = f"percentile_disc(array[{steps}]) within group (order by {column.measured})"
    return (
        f"select {place} as place, count(*) as rows, count(v) as present, {quantiles} as quantiles "
        f"from (select c{place} as v from sample) as one"
    )


def _hashes(place: int) -> str:
    seed = "(select seed from ops.profile_seed)"
    return (
        f"select {place} as place, hashtextextended(c{place}::text, {seed}) as hash, count(*) as times from sample "
        f"where c{place} is not null group by 2"
    )
