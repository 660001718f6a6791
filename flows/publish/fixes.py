"""Rows fixed by hand: as long as the source sends the bad version again, the fixed one stays in its place."""

from __future__ import annotations

from flows.declare import Append, Rule
from flows.publish.session import LoadSession
from flows.publish.staged import Staged
from flows.quality.documents import Documents
from flows.quality.open_rows import FIXED_BY_HAND, same_key
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.shape import METADATA_NAMES, column_list


def _standing(session: LoadSession) -> str:
    table = session.target.name
    return (
        f"q.source_system = {quote_literal(table.source)} and q.table_name = {quote_literal(table.name)} "
        f"and q.withheld and q.resolution = '{FIXED_BY_HAND}'"
    )


async def give_way(session: LoadSession, staged: Staged) -> None:
    """Delete raw's rows fixed by hand whose key has come with a good row, if the load would skip rows that raw has."""
    if not isinstance(staged.load, Append) or not staged.keys or staged.first:
        return
    raw, landing = session.target.raw, session.target.landing
    await session.warehouse.execute(
        f"delete from {raw} as r using quarantine.rows as q, {landing} as l "
        f"where {_standing(session)} and {same_key(staged.key_types, 'r')} and {same_key(staged.key_types, 'l')}"
    )


async def put_in_place(session: LoadSession, staged: Staged, rules: tuple[Rule, ...]) -> int:
    """Landing gets the fixed versions of the rows that this load has just moved to quarantine. Returns how many.

    A version that breaks a rule of today stays out: raw keeps what it has.
    """
    warehouse, target = session.warehouse, session.target
    documents = Documents(target.landing, {column.name: column.raw_type for column in staged.shape.columns})
    document, names = "f.row_data", column_list([*staged.shape.names, *METADATA_NAMES])
    landed = "false"
    if staged.keys:
        same = " and ".join(f"l.{quote_identifier(key)} = p.{quote_identifier(key)}" for key in staged.keys)
        landed = f"exists (select from {target.landing} as l where {same})"
    status = await warehouse.execute(
        f"insert into {target.landing} ({names}) "
        f"select {', '.join(documents.values(document, 'p'))}, $1::text::timestamptz, $2, $3, null "
        f"from quarantine.rows as q inner join quarantine.fixes as f using (fix_id) {documents.row(document, 'p')} "
        f"where {_standing(session)} and q.seen_batch_id = $3 and {documents.fits(document)} "
        f"and {documents.broken(document, 'p', rules)} is null and not {landed}",
        staged.extracted_at,
        target.source,
        session.batch_id,
    )
    return int(status.split()[-1])
