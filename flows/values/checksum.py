"""SQL for checksums of rows that are equal for equal rows, at the source and in the warehouse.

A row's image is `row(…)::text` over the source's columns: it distinguishes null from the empty string and quotes
separators, and `connections` pins every setting that the text depends on. A bucket is the lowest bits of the hash of
the key's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.values.identifiers import quote_literal

Key = tuple[str | None, ...]
"""A row's key: the text of each of its columns."""

# Under "C": a hash by a collation that treats different texts as equal is another one in a warehouse without it.
_FAST = 'hashtextextended(({text}) collate "C", 0)'
# For servers that hash text differently: other versions, byte orders, encodings. The first 64 bits of MD5 over UTF-8.
_PORTABLE = "('x' || substr(md5(convert_to({text}, 'UTF8')), 1, 16))::bit(64)::bigint"

PROBE = f"select getdatabaseencoding() as encoding, {_FAST.format(text=repr('medallion'))} as hash"
"""The results of both servers decide whether they compute the same fast hash."""


@dataclass(frozen=True, slots=True)
class RowSet:
    """The rows of one side of a comparison.

    `keys` and `columns` are SQL expressions over the relation, in raw's types and in the same order on both sides.
    Sums are of 64-bit hashes: two different sets of rows match with a probability of about one in 2^64.
    """

    relation: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    condition: str = "true"
    portable: bool = False

    def _hash(self, text: str) -> str:
        return (_PORTABLE if self.portable else _FAST).format(text=text)

    @property
    def _key_hash(self) -> str:
        text = f"({self.keys[0]})::text" if len(self.keys) == 1 else f"row({', '.join(self.keys)})::text"
        return f"coalesce({self._hash(text)}, 0)"

    @property
    def _mark(self) -> str:
        return self._hash(f"row({', '.join(self.columns)})::text")

    def whole(self) -> str:
        """One row: `rows` and the sum `mark` of everything."""
        return f"select count(*) as rows, sum({self._mark}) as mark from {self.relation} where {self.condition}"

    def buckets(self, bits: int, within: int | None = None) -> str:
        """A row per bucket of 2^`bits`: `bucket`, `rows`, `mark`. `within`: only inside the buckets `$1::bigint[]` of
        2^`within`.

        `offset 0` keeps the planner from estimating as many groups as rows: it then sorted them, 1.3 times as slow.
        """
        inside = "" if within is None else f" and {self._key_hash} & {2**within - 1} = any($1::bigint[])"
        return (
            f"select bucket, count(*) as rows, sum(mark) as mark from ("
            f"select {self._key_hash} & {2**bits - 1} as bucket, {self._mark} as mark "
            f"from {self.relation} where ({self.condition}){inside} offset 0) as hashed group by 1"
        )

    def rows(self, bits: int) -> str:
        """The rows of the buckets `$1::bigint[]` of 2^`bits`: `hash`, `key` (text[]), `mark`; ordered by `hash`."""
        key = ", ".join(f"({key})::text" for key in self.keys)
        return (
            f"select {self._key_hash} as hash, array[{key}] as key, {self._mark} as mark from {self.relation} "
            f"where ({self.condition}) and {self._key_hash} & {2**bits - 1} = any($1::bigint[]) order by 1"
        )


def key_among(expressions: Sequence[str], kinds: Sequence[str], keys: Sequence[Key]) -> str:
    """SQL: the key made of the expressions, which have these types, is one of `keys`.

    An array unnested to a relation: PostgreSQL knows its length, and finds each key by the index.
    """
    if not keys:
        return "false"
    arrays = ", ".join(
        f"array[{', '.join(quote_literal(text) for text in column if text is not None)}]::text[]"
        for column in zip(*keys, strict=True)
    )
    names = [f"k{place}" for place in range(len(kinds))]
    typed = ", ".join(f"{name}::{kind}" for name, kind in zip(names, kinds, strict=True))
    return f"({', '.join(expressions)}) in (select {typed} from unnest({arrays}) as wanted ({', '.join(names)}))"
