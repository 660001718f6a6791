"""Story: the idle account → a new password → tried → the address names it. The one before goes on working.

Each role of the warehouse has two accounts that log in: its own name, and that with `_clone`, which acts as the role
from its first statement on. A rotation gives the idle one a password and turns the address to it; whoever is at work, a
long build among them that opens connection after connection, goes on with the other until the next rotation. So every
step may be the last: the address in the store names an account that works.
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
# One rotation at a time: two would give one account two passwords, or write over each other's address in the block.
# The lock is one of the database `postgres`, where roles of the platform may not connect: they could hold it for ever.
_LOCK_CLASS = 20_170_103


@dataclass(frozen=True, slots=True)
class Rotated:
    """The account that the address names from now on, and the one that it named."""

    account: str
    former: str


def rotate_role(admin_url: str, address: DatabaseConnection, store: Callable[[str], None], *, now: bool) -> Rotated:
    """Give the role's idle account a password, and have `store` put the new address where the former was read.

    `admin_url` is an account's that may create roles. With `now` the former account's password ends too: for one
    that got into wrong hands. What is at work then fails at its next connection, and the next run goes on.

    Raises:
        ConfigurationError: the administrator's address does not work, or the new account's does not.
        LoadLocked: another rotation was under way all the while we waited.
    """
    password = secrets.token_urlsafe(24)
    try:
        address_of_admin = DatabaseConnection("admin", admin_url).url
        with psycopg.connect(address_of_admin, dbname="postgres", autocommit=True, connect_timeout=10) as admin:
            _take_turn(admin)
            # Who was before us has turned it to the account that seemed idle.
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
            "the administrator's account may not give roles passwords",
            where="MEDALLION_ADMIN_URL",
            fix="use the account that ran infra/local/roles.sql, or a superuser",
        ) from None
    return Rotated(account, former)


def rotate_block(role: Role, *, now: bool) -> Rotated:
    """Rotate a role whose address stands in the block `warehouse`, as the administrator of MEDALLION_ADMIN_URL.

    Raises:
        ConfigurationError: it stands elsewhere, which only its keeper can change; or no administrator is named.
    """
    address = addresses.warehouse(role)
    if address.reread is None or settings().secrets_prefix:
        keeper = "AWS Secrets Manager, which rotates it itself" if settings().secrets_prefix else "the environment"
        raise ConfigurationError(
            f"the address comes from {keeper}",
            where=f"warehouse, {role}",
            fix="rotate it where it is kept: docs/security.md, Rotation, says in which order",
        )
    admin_url = settings().admin_url
    if admin_url is None:
        raise ConfigurationError(
            "nothing says who may give roles passwords",
            where="MEDALLION_ADMIN_URL",
            fix="set it to the address of the account that ran infra/local/roles.sql, for this command alone",
        )
    from blocks.documents import replace_address  # imports Prefect, which takes a second

    return rotate_role(admin_url.get_secret_value(), address, lambda url: replace_address(role, url), now=now)


def _take_turn(admin: psycopg.Connection) -> None:
    """The server gives the turn back when the session ends, however it ends."""
    try:
        admin.execute(
            "select set_config('lock_timeout', %s, false)", [f"{max(1, round(settings().lock_wait_seconds * 1000))}ms"]
        )
        admin.execute("select pg_advisory_lock(%s, 0)", [_LOCK_CLASS])
    except psycopg.errors.LockNotAvailable:
        raise LoadLocked(
            "another rotation is under way",
            where="rotate",
            fix="wait for it to end, and run it again if its role is another",
            retryable=True,
        ) from None


def ensure_account(admin: psycopg.Connection, role: str, account: str, password: str) -> None:
    """The account under this password, acting as the role: what it creates is the role's, what the role may, it may."""
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
    """The role's settings and number of connections for the account: the server applies those of who logs in."""
    found = admin.execute("select rolconnlimit, coalesce(rolconfig, '{}') from pg_roles where rolname = %s", [role])
    limit, bounds = found.fetchone() or (-1, [])
    admin.execute(sql.SQL("alter role {} connection limit {}").format(sql.Identifier(account), sql.Literal(limit)))
    for name, _, value in (bound.partition("=") for bound in bounds):
        # temp_file_limit is a superuser's to set; roles.sql says so where it cannot be.
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
            fix="look at `alter role … set role` of that account; nothing was changed in the store",
        )


def _die_at(step: str) -> None:
    pass_failpoint(step, settings().failpoint)
