"""Faults of the source database, of its data, and of the API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from infra.gameday.fault import Fault, Scene
from infra.gameday.proxy import Mode
from infra.gameday.writer import GUESTS_FROM
from infra.local.roles import ADMIN

_ROLE = "medallion_extractor"
#: A source that fails raises alerts of the tables whose loads fail, or of the run if it fails before its loads.
_SOURCE_FAILS = ("load failed game.*", "run failed ingest game")
_API_FAILS = ("circuit open source gameapi", "run failed ingest gameapi")


def _by_statements(make: str, end: str) -> Callable[[Scene], None]:
    def making(scene: Scene) -> None:
        scene.undo.callback(scene.at_source, end)
        # Behind a transaction that is open, the statement would wait, and all readers behind it.
        scene.writer.pause()
        try:
            scene.at_source(make)
        finally:
            scene.writer.resume()

    return making


def _by_proxy(mode: Mode) -> Callable[[Scene], None]:
    def making(scene: Scene) -> None:
        proxy = scene.world.proxy

        def end() -> None:
            proxy.mode = "pass"
            proxy.cut()

        scene.undo.callback(end)
        proxy.mode = mode
        if mode == "refuse":
            proxy.cut()

    return making


def _by_api(mode: str) -> Callable[[Scene], None]:
    def making(scene: Scene) -> None:
        api = scene.world.api
        scene.undo.callback(setattr, api, "mode", "fine")
        api.mode = mode  # type: ignore[assignment]

    return making


def _poison(count: int) -> Callable[[Scene], None]:
    """Rows that break the declared rule, until somebody corrects them at the source."""

    def making(scene: Scene) -> None:
        def end() -> None:
            with scene.writer.transaction() as connection:
                connection.execute("update accounts set balance = 0, updated_at = now() where balance < 0")

        scene.undo.callback(end)
        with scene.writer.transaction() as connection:
            connection.execute(
                "insert into accounts (account_id, holder, balance) select n, 'poison', -1 "
                "from generate_series((select max(account_id) + 1 from accounts), "
                "(select max(account_id) + %s from accounts)) as n",
                [count],
            )

    return making


def _mass_delete(scene: Scene) -> None:
    """All guests are deleted, and put back."""
    with scene.world.source.session() as connection:
        connection.execute("create table kept_accounts (like accounts)")

    def end() -> None:
        with scene.writer.transaction() as connection:
            connection.execute(
                "insert into accounts (account_id, holder, balance) select account_id, holder, balance "
                "from kept_accounts on conflict do nothing"
            )
        scene.at_source("drop table kept_accounts")

    scene.undo.callback(end)
    with scene.writer.transaction() as connection:
        connection.execute(
            "with gone as (delete from accounts where account_id >= %s returning *) "
            "insert into kept_accounts select * from gone",
            [GUESTS_FROM],
        )


def _rotate_password(scene: Scene) -> None:
    """The source's owner sets another password; the platform's is valid again when the rotation is completed."""

    def change(password: str) -> None:
        with scene.world.source.session() as connection:
            verifier = connection.pgconn.encrypt_password(password.encode(), _ROLE.encode(), b"scram-sha-256")
            connection.execute(
                psycopg.sql.SQL("alter role {} password {}").format(
                    psycopg.sql.Identifier(_ROLE), psycopg.sql.Literal(verifier.decode())
                )
            )

    scene.undo.callback(change, scene.world.source.passwords[_ROLE])
    change(scene.world.source.passwords[ADMIN][::-1])


def _late_commit(scene: Scene) -> None:
    """A transaction stays open over several loads, and commits rows with the time of its beginning."""

    def holding() -> None:
        with suppress(psycopg.Error), scene.world.source.session() as connection:
            scene.writer.late(connection, 75)

    thread = threading.Thread(target=holding, name="late commit", daemon=True)
    thread.start()
    scene.undo.callback(thread.join)


FAULTS = (
    Fault(
        "source refuses connections",
        "the source database is down",
        _by_proxy("refuse"),
        ("load failed game.*",),
        _SOURCE_FAILS,
        "warning",
    ),
    Fault(
        "source stalls",
        "the source accepts connections, and sends nothing any more",
        _by_proxy("stall"),
        ("load failed game.*",),
        _SOURCE_FAILS,
        "warning",
    ),
    Fault(
        "connections are reset",
        "each connection to the source is reset in the middle of a read",
        _by_proxy("reset"),
        ("load failed game.*",),
        _SOURCE_FAILS,
        "warning",
    ),
    Fault(
        "grant revoked",
        "the platform's role may not read a table any more",
        _by_statements(f"revoke select on accounts from {_ROLE}", f"grant select on accounts to {_ROLE}"),
        ("load failed game.accounts",),
        severity="error",
    ),
    Fault(
        "column retyped",
        "a column has a type that could alter values",
        _by_statements(
            "alter table prices alter column amount type integer",
            "alter table prices alter column amount type numeric",
        ),
        ("load refused game.prices",),
        ("schema changed game.prices",),
        "error",
    ),
    Fault(
        "rows hidden",
        "row-level security hides all rows from the platform's role",
        _by_statements(
            "alter table accounts enable row level security", "alter table accounts disable row level security"
        ),
        ("load failed game.accounts",),
        severity="error",
    ),
    Fault(
        "poison rows",
        "two rows break a rule, fewer than the threshold",
        _poison(2),
        ("rows quarantined game.accounts",),
        severity="warning",
    ),
    Fault(
        "many poison rows",
        "more rows break a rule than the threshold allows",
        _poison(60),
        ("load refused game.accounts",),
        severity="error",
    ),
    Fault(
        "mass delete",
        "more rows disappear at the source than the threshold allows",
        _mass_delete,
        ("load refused game.accounts",),
        severity="error",
    ),
    Fault(
        "password rotated",
        "the source's password was changed, and the platform has the former one",
        _rotate_password,
        ("load failed game.*",),
        _SOURCE_FAILS,
        "error",
    ),
    Fault("late commit", "a transaction commits long after it began", _late_commit, seconds=80),
    Fault(
        "API answers 500",
        "every request to the API fails",
        _by_api("500"),
        ("load failed gameapi.items",),
        _API_FAILS,
        "warning",
    ),
    Fault(
        "API answers 401",
        "the API refuses its key",
        _by_api("401"),
        ("load failed gameapi.items",),
        _API_FAILS,
        "error",
    ),
    Fault(
        "API answers HTML",
        "the API answers 200 with a page for people",
        _by_api("html"),
        ("load failed gameapi.items",),
        _API_FAILS,
        "error",
    ),
    Fault(
        "API contradicts itself",
        "a list ends before its own total",
        _by_api("contradiction"),
        ("load failed gameapi.items",),
        _API_FAILS,
        "error",
    ),
)
