"""Amounts of type money: an integer of the smallest unit, which PostgreSQL reads by the setting lc_monetary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.values.errors import SourceError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# What applies to the database's users, and whether our role alone has another setting. `reset_val` is the session's
# default, which includes the role's.
_LOCALE = """
with own as (
    select s.setrole, s.setdatabase, substr(c.entry, length('lc_monetary=') + 1) as locale
    from pg_db_role_setting as s
    cross join unnest(s.setconfig) as c (entry)
    where
        c.entry like 'lc_monetary=%'
        and s.setrole in (0, (select r.oid from pg_roles as r where r.rolname = session_user))
        and s.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
)
select
    coalesce(
        (select o.locale from own as o where o.setrole = 0 order by o.setdatabase desc limit 1),
        case
            when not exists (select from own)
                then (select p.reset_val from pg_settings as p where p.name = 'lc_monetary')
        end
    ) as locale
"""


async def money_decimals(connection: Connection[Record], where: str) -> int:
    """The decimals of the database's amounts: 2, or 0 for yen.

    Other than two, amounts are converted at the source, and the transaction keeps the setting for that.

    Raises:
        SourceError: our role alone has another setting, so that the database's cannot be seen.
    """
    locale = await connection.fetchval(_LOCALE)
    if locale is None:
        raise SourceError(
            "the table has a column of type money, and our role's own lc_monetary hides that of the database",
            where=where,
            fix="as its owner: alter role … reset lc_monetary; or alter database … set lc_monetary to the setting "
            "with which the application writes",
        )
    row = await connection.fetchrow(
        "select set_config('lc_monetary', $1, true) as locale, scale('0'::money::numeric) as decimals", locale
    )
    assert row is not None  # a select without from always answers one row
    if row["decimals"] == 2:
        # Then the bytes mean the same everywhere, and so does the text under C.
        await connection.execute("set local lc_monetary = 'C'")
    return int(row["decimals"])
