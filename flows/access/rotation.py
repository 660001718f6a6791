"""Password rotation: set a new password for the idle account → test it → store its URL. The old account stays valid.

Each role of the warehouse has two login accounts: its own name, and one with `_clone`, which acts as the role from its
first statement on. A rotation sets a password for the idle account and stores its URL; running processes, such as a
long build that opens many connections, keep the other account until the next rotation. So a rotation may stop at any
step: the stored URL always names an account that works.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from flows.access import addresses
from flows.access.addresses import Role
from flows.failures.failpoints import pass_failpoint
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, LoadLocked
from flows.values.libpq import explain_libpq
from flows.values.settings import settings

CLONE = "_clone"
# One rotation at a time: two would set two passwords for one account, or overwrite each other's URL in the block.
# The lock is in the database `postgres`, where roles of the platform cannot connect: they could hold it forever.
_LOCK_CLASS = 20_170_103


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new account in the stored URL, and the former one."""

    account: str
    former: str


def rotate_role(admin_url: str, address: DatabaseConnection, store: Callable[[str], None], *, now: bool) -> Rotated:
    """Set a password for the role's idle account, and call `store` with the new connection URL.

    `admin_url` is that of an account that may create roles. With `now` the former account's password is revoked too,
    for a leaked one. Running processes then fail at their next connection, and the next run resumes.

    Raises:
        ConfigurationError: the administrator's URL or the new account's does not work.
        LoadLocked: another rotation was running during the full wait.
    """
    password = secrets.token_urlsafe(24)
    try:
        address_of_admin = DatabaseConnection("admin", admin_url).url
        with psycopg.connect(address_of_admin, dbname="postgres", autocommit=True, connect_timeout=10) as admin:
            _take_turn(admin)
            # The previous rotation has switched to the account that seemed idle.
            address = address.reread() if address.reread else address
            parts = urlsplit(address.url)
            former = unquote(parts.username or "")
            role = former.removesuffix(CLONE)
            account = role if former.endswith(CLONE) else f"{role}{CLONE}"
            ensure_account(admin, role, account, password)
            _die_at("rotate_after_password")
            place = parts.netloc.rpartition("@")[2]
            login = f"{quote(account, safe='')}:{quote(password, safe='')}"
            url = urlunsplit(parts._replace(netloc=f"{login}@{place}"))
            _try(url, role)
            store(url)
            _die_at("rotate_after_store")
            if now:
                _set_password(admin, former, secrets.token_urlsafe(24))
    except psycopg.OperationalError as problem:
        raise explain_libpq(problem, where=address.safe_address) from None
    except psycopg.errors.InsufficientPrivilege:
        raise ConfigurationError(
            "the administrator's account is not allowed to set passwords of roles",
            where="MEDALLION_ADMIN_URL",
            fix="use the account that ran infra/local/roles.sql, or a superuser",
        ) from None
    return Rotated(account, former)


def rotate_block(role: Role, *, now: bool) -> Rotated:
    """Rotate a role whose connection URL is in the block `warehouse`, as the administrator of MEDALLION_ADMIN_URL.

    Raises:
        ConfigurationError: the URL is stored elsewhere, or no administrator is configured.
    """
    address = addresses.warehouse(role)
    if address.reread is None or settings().secrets_prefix:
        keeper = "AWS Secrets Manager, which rotates it itself" if settings().secrets_prefix else "the environment"
        raise ConfigurationError(
            f"the connection URL comes from {keeper}",
            where=f"warehouse, {role}",
            fix="rotate it there; docs/security.md, Rotation, has the steps",
        )
    admin_url = settings().admin_url
    if admin_url is None:
        raise ConfigurationError(
            "the administrator's connection URL is not configured",
            where="MEDALLION_ADMIN_URL",
            fix="set it to the connection URL of the account that ran infra/local/roles.sql, for this command only",
        )
    from blocks.documents import replace_address  # imports Prefect, which takes a second

    return rotate_role(admin_url.get_secret_value(), address, lambda url: replace_address(role, url), now=now)


def _take_turn(admin: psycopg.Connection) -> None:
    """The server releases the lock when the session ends, however it ends."""
    try:
        admin.execute(
            "select set_config('lock_timeout', %s, false)", [f"{max(1, round(settings().lock_wait_seconds * 1000))}ms"]
        )
        admin.execute("select pg_advisory_lock(%s, 0)", [_LOCK_CLASS])
    except psycopg.errors.LockNotAvailable:
        raise LoadLocked(
            "another rotation is running",
            where="rotate",
            fix="wait until it ends; run the command again if it rotates another role",
            retryable=True,
        ) from None


def ensure_account(admin: psycopg.Connection, role: str, account: str, password: str) -> None:
    """Set the account's password and make it act as the role: it owns and may do what the role owns and may do."""
    if account != role:
        _let_act_as(admin, role, account)
    _set_password(admin, account, password)


def _let_act_as(admin: psycopg.Connection, role: str, account: str) -> None:
    names = {"account": sql.Identifier(account), "role": sql.Identifier(role)}
    if admin.execute("select from pg_roles where rolname = %s", [account]).fetchone() is None:
        create = "create role {account} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls"
        admin.execute(sql.SQL(create).format(**names))
    admin.execute(sql.SQL("grant {role} to {account}").format(**names))
    admin.execute(sql.SQL("alter role {account} set role = {name}").format(**names, name=sql.Literal(role)))
    _bound_alike(admin, role, account)


def _bound_alike(admin: psycopg.Connection, role: str, account: str) -> None:
    """Copy the role's settings and connection limit to the account: the server applies those of the login account."""
    found = admin.execute("select rolconnlimit, coalesce(rolconfig, '{}') from pg_roles where rolname = %s", [role])
    limit, bounds = found.fetchone() or (-1, [])
    admin.execute(sql.SQL("alter role {} connection limit {}").format(sql.Identifier(account), sql.Literal(limit)))
    for name, _, value in (bound.partition("=") for bound in bounds):
        # Only a superuser can set temp_file_limit; roles.sql reports it if it cannot be set.
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            admin.execute(
                sql.SQL("alter role {} set {} = {}").format(
                    sql.Identifier(account), sql.Identifier(name), sql.Literal(value)
                )
            )


def _set_password(admin: psycopg.Connection, account: str, password: str) -> None:
    # Hashed here, so that the server never sees a password it could log.
    verifier = admin.pgconn.encrypt_password(password.encode(), account.encode(), b"scram-sha-256").decode()
    admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(account), sql.Literal(verifier)))


def _try(url: str, role: str) -> None:
    with psycopg.connect(url, connect_timeout=10) as connection:
        row = connection.execute("select current_user = %s", [role]).fetchone()
    if row is None or not row[0]:
        raise ConfigurationError(
            f"the new account does not act as {role}",
            where=f"{role}{CLONE}",
            fix="check `alter role … set role` of that account; nothing was stored",
        )


def _die_at(step: str) -> None:
    pass_failpoint(step, settings().failpoint)
