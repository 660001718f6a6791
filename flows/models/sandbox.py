"""Hardening of dbt's Jinja sandbox: objects that contain the connection cannot be read.

dbt passes Python objects to models and forbids only attributes that begin with an underscore. Measured on dbt 1.11:
`ref.config.credentials.password` and `adapter.add_query('select 1')[0].handle.info.password` give the password, and
`ref.manifest` and `ref.config` have methods that write and read files. No macro of dbt's own reads these attributes.
"""

from __future__ import annotations

from typing import Any

_MARK = "withholds_connections"


def withhold_connections() -> None:
    """Prevent models and macros in this process from reading connections and the attributes that lead to them."""
    from dbt_common.clients.jinja import MacroFuzzEnvironment

    environment: Any = MacroFuzzEnvironment
    allowed = environment.is_safe_attribute
    if hasattr(allowed, _MARK):
        return
    withheld = _withheld()

    def is_safe_attribute(self: Any, obj: Any, attr: str, value: Any) -> bool:
        return not isinstance(obj, withheld) and bool(allowed(self, obj, attr, value))

    setattr(is_safe_attribute, _MARK, True)
    environment.is_safe_attribute = is_safe_attribute


def _withheld() -> tuple[type, ...]:
    from dbt.adapters.contracts.connection import Connection, Credentials
    from dbt.config.profile import Profile
    from dbt.context.providers import BaseResolver
    from psycopg2 import extensions  # type: ignore[import-untyped]  # its stubs are a package of their own

    # Profile is RuntimeConfig's base; resolvers are `ref`, `source` and `metric`.
    return (
        BaseResolver, Profile, Credentials, Connection,
        extensions.connection, extensions.cursor, extensions.ConnectionInfo,
    )  # fmt: skip
