"""Receipts of tables of gold, as `gold.receipts_now` tells them: what each rests on, as published and as known now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flows.values.errors import ConfigurationError, DeclarationError

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Finding:
    """What a reader should know. `level` is problem or note; `is_new`: it was not so when the table was published."""

    level: str
    about: str
    text: str
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source table that a table of gold rests on.

    `as_of_batch` is the load of `ops.loads` whose rows are in the table for sure, `as_of` when that ended, and
    `read_to` the position that it had read to; all three are None if that is not known. `loaded_at` is the last full
    load, `result` how it compared with the source, `compared` the result of the last `medallion reconcile`.
    """

    name: str
    as_of_batch: int | None
    as_of: datetime | None
    read_to: str | None
    loaded_at: datetime | None
    result: str | None
    compared: str | None
    compared_at: datetime | None
    rows: int | None
    quarantined: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of one table. `tests` counts by result; `findings` are those known now, problems first."""

    table: str
    published_at: datetime
    run_id: int | None
    models: str | None
    commit: str | None
    complete_until: date | None
    rows_quarantined: int
    quarantined_share: Decimal | None
    tests: Mapping[str, int]
    tested_at: datetime | None
    sources: tuple[SourceFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings that are more than a note."""
        return tuple(finding for finding in self.findings if finding.level == "problem")

    @property
    def loaded_at(self) -> datetime | None:
        """The oldest of the last full loads that it rests on; None if there was none, or it rests on no source."""
        loaded = [source.loaded_at for source in self.sources if source.loaded_at is not None]
        return min(loaded) if loaded and len(loaded) == len(self.sources) else None


_TESTS = ("passed", "warned", "failed", "skipped", "not_run")


async def has_receipts(connection: Connection[Record]) -> bool:
    """Whether a build has written receipts yet."""
    return bool(await connection.fetchval("select to_regclass('gold.receipts_now') is not null"))


async def read_receipts(connection: Connection[Record], table: str | None = None) -> list[Receipt]:
    """The receipts of all tables, or of one, by name. `table` may begin with `gold.`.

    Raises:
        ConfigurationError: no build has written receipts yet.
        DeclarationError: there is none of this table.
    """
    if not await has_receipts(connection):
        raise ConfigurationError(
            "there are no receipts yet", where="gold", fix="run `medallion transform`, which writes them"
        )
    wanted = table.removeprefix("gold.") if table is not None else None
    rows = await connection.fetch(
        "select *, sources::text as source_facts, findings::text as found, findings_as_published::text as published "
        "from gold.receipts_now where $1::text is null or table_name = $1 order by table_name",
        wanted,
    )
    if wanted is not None and not rows:
        raise DeclarationError(
            f"gold has no table {wanted!r} with a receipt",
            where="gold.receipts",
            fix="`medallion receipt` shows all of them; a table gets one when it is built",
        )
    return [_receipt(row) for row in rows]


def _receipt(row: Record) -> Receipt:
    published = {(one["about"], one["finding"]) for one in json.loads(row["published"])}
    return Receipt(
        table=row["table_name"],
        published_at=row["published_at"],
        run_id=row["run_id"],
        models=row["models"],
        commit=row["commit_sha"],
        complete_until=row["complete_until"],
        rows_quarantined=row["rows_quarantined"],
        quarantined_share=row["quarantined_share"],
        tests={name.replace("_", " "): row[f"tests_{name}"] for name in _TESTS},
        tested_at=row["tested_at"],
        sources=tuple(_source(one) for one in json.loads(row["source_facts"])),
        findings=tuple(
            Finding(one["level"], one["about"], one["finding"], (one["about"], one["finding"]) not in published)
            for one in json.loads(row["found"])
        ),
    )


def _source(facts: Mapping[str, Any]) -> SourceFacts:
    compared = facts.get("compared") or {}
    return SourceFacts(
        name=facts["name"],
        as_of_batch=facts.get("as_of_batch"),
        as_of=_time(facts.get("as_of")),
        read_to=facts.get("read_to"),
        loaded_at=_time(facts.get("loaded_at")),
        result=facts.get("result"),
        compared=compared.get("result"),
        compared_at=_time(compared.get("at")),
        rows=facts.get("rows"),
        quarantined=facts.get("quarantined", 0),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def as_values(receipt: Receipt) -> dict[str, Any]:
    """A receipt for programs: times in ISO 8601, the share from 0 to 1."""

    def told(moment: date | None) -> str | None:
        return moment.isoformat() if moment is not None else None

    return {
        "table": receipt.table,
        "published_at": told(receipt.published_at),
        "run_id": receipt.run_id,
        "models": receipt.models,
        "commit": receipt.commit,
        "complete_until": told(receipt.complete_until),
        "rows_quarantined": receipt.rows_quarantined,
        "quarantined_share": float(receipt.quarantined_share) if receipt.quarantined_share is not None else None,
        "tests": dict(receipt.tests),
        "tested_at": told(receipt.tested_at),
        "sources": [
            {
                "name": source.name,
                "as_of_batch": source.as_of_batch,
                "as_of": told(source.as_of),
                "read_to": source.read_to,
                "loaded_at": told(source.loaded_at),
                "result": source.result,
                "compared": source.compared,
                "compared_at": told(source.compared_at),
                "rows": source.rows,
                "quarantined": source.quarantined,
            }
            for source in receipt.sources
        ],
        "findings": [
            {"level": one.level, "about": one.about, "finding": one.text, "since_published": one.is_new}
            for one in receipt.findings
        ],
    }


def tests_in_words(tests: Mapping[str, int]) -> str:
    """`12 passed, 1 warned`; what did not occur is left out."""
    return ", ".join(f"{number} {result}" for result, number in tests.items() if number) or "none"


def summary(findings: Sequence[Finding]) -> str:
    """`2 problems, 1 note`; empty if there is nothing to say."""
    counts = [(sum(one.level == level for one in findings), level) for level in ("problem", "note")]
    return ", ".join(f"{number} {level}{'s' if number > 1 else ''}" for number, level in counts if number)
