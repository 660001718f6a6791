"""The grant statement for missing privileges: PostgreSQL names a table without its schema."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg.exceptions import InsufficientPrivilegeError

    from flows.values.connection import DatabaseConnection

_DENIED = re.compile(r"permission denied for (?:table|view|materialized view|foreign table) (.+)$", re.MULTILINE)
# A role without usage on the schema is refused there. Privileges that an owner revoked from itself are all granted
# again; for others only select is certain, because PostgreSQL does not name the missing privilege.
_QUERY = """
with named as (
    select class.oid, class.relowner, format('%%I.%%I', namespace.nspname, class.relname) as name
    from pg_catalog.pg_class as class
    inner join pg_catalog.pg_namespace as namespace on class.relnamespace = namespace.oid
    where class.relname = %s
        and class.relkind in ('r', 'p', 'v', 'm', 'f')
        and namespace.nspname not in ('pg_catalog', 'information_schema')
        and pg_catalog.has_schema_privilege(namespace.oid, 'usage')
), missing as (
    select name, string_agg(verb, ', ' order by place) as verbs
    from named
    cross join (values (1, 'select'), (2, 'insert'), (3, 'update'), (4, 'delete')) as verbs (place, verb)
    where not pg_catalog.has_table_privilege(oid, verb)
        and (verb = 'select' or pg_catalog.pg_has_role(relowner, 'usage'))
    group by name
)
select format('grant %%s on %%s to %%I;', verbs, name, current_user) from missing order by name
"""


def missing_grants(address: DatabaseConnection, message: str) -> str:
    """What the owner of the table has to run, such as `grant select on raw_shop.baskets to medallion_transformer;`.

    `message` is PostgreSQL's `permission denied for table baskets`, `address` that of the role that was refused. With
    several tables of the name that the role may not read, a statement for each. Empty when nothing is found.
    """
    denied = _DENIED.search(message)
    if denied is None:
        return ""
    import psycopg  # here: a tenth of what starting a load takes, and only a refused role needs it

    # It only explains a failure, and must not replace it.
    with suppress(psycopg.Error), psycopg.connect(address.url, connect_timeout=5, autocommit=True) as connection:
        connection.execute("set statement_timeout = '5s'")
        return " ".join(row[0] for row in connection.execute(_QUERY, [denied[1]]).fetchall())
    return ""


async def note_refusal(problem: InsufficientPrivilegeError, side: str, address: DatabaseConnection) -> None:
    """Attach the refused role and its missing grant to the error, for the diagnosis.

    An error may pass the connections of both sides; the diagnosis knows on which side it happened.
    """
    problem.__dict__.setdefault("roles", {}).setdefault(side, address.user)
    grants = problem.__dict__.setdefault("grants", {})
    if side not in grants:
        grants[side] = await asyncio.to_thread(missing_grants, address, str(problem))
