"""The result of a load in words: one sentence wherever it is shown, and what follows from it."""

from __future__ import annotations

from flows.values.plan import LoadCounts

#: Results that end a run with a warning: both ends do not hold the same.
NOTICED = frozenset({"missing", "extra", "duplicate"})


def in_words(counts: LoadCounts) -> str | None:
    """`5 rows at the source are missing in raw`; None for a result that needs no warning."""
    return "; ".join(part for part in (_difference(counts), counts.skipped) if part) or None


def _difference(counts: LoadCounts) -> str | None:
    held = (counts.raw_rows or 0) + (counts.quarantine_rows or 0)
    lacking = (counts.source_rows or 0) - held
    also: list[str] = []
    match counts.reconciliation:
        case "missing":
            missing = _number(counts.missing_rows, lacking)
            said = f"{missing}{_rows(missing)} at the source missing in raw"
            also += [f"{counts.extra_rows:,} in raw no longer at the source"] if counts.extra_rows else []
            also += [f"{counts.duplicate_rows:,} with a key that is not unique"] if counts.duplicate_rows else []
        case "duplicate":
            copies = _number(counts.duplicate_rows or counts.rows_deduplicated, 0)
            said = f"{copies}{_rows(copies)} at the source with a key that is not unique"
            also += [f"{counts.extra_rows:,} in raw no longer at the source"] if counts.extra_rows else []
        case "extra":
            extra = _number(counts.extra_rows, -lacking)
            said = f"{extra}{_rows(extra)} in raw no longer at the source"
            also += ["only counts were compared, so that as many may be missing"] if counts.extra_rows is None else []
        case _:
            return None
    return "; ".join([said, *also])


def warning(counts: LoadCounts, where: str, strategy: str, *, load: str, has_key: bool, deletes: bool) -> str | None:
    """The sentence with what to do about it. `load` is the declared strategy, `strategy` that of this load."""
    said = in_words(counts)
    if said is None:
        return None
    match counts.reconciliation:
        case "missing" if not has_key and load == "append":
            said += (
                ": without a key they cannot be read again (identifiers taken early and used late); declare the key, "
                f"or load a new raw table: `medallion reload {where} --recreate`"
            )
        case "missing" if load in {"replace", "overwrite"} or strategy == "initial":
            said += ": the next run reads them"
        case "missing" if strategy == "reload":
            said += f", although the table was reloaded: `medallion reconcile {where}` shows which"
        case "missing" if strategy not in {"backfill", "repair", "replay"}:
            said += ": the next run reloads the table"
        case "duplicate":
            said += (
                ": quarantine has them as key_not_unique; make the key unique at the source, or declare the right key"
            )
        case "extra" if load == "merge" and not deletes:
            said += ": declare deletes=True to mark them as deleted"
        case "extra" if load == "append":
            said += ": an append keeps them"
        case _:
            pass
    return said


def _number(known: int | None, otherwise: int) -> str:
    number = otherwise if known is None else known
    return f"{number:,} " if number > 0 else ""


def _rows(number: str) -> str:
    return "row" if number == "1 " else "rows"
