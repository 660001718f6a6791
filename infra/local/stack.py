"""The embedded stack as a whole: PostgreSQL, a Prefect server and, for the demo, the commerce API.

    stack = up(wait=False)       # PostgreSQL is ready, Prefect boots
    …                            # load data meanwhile
    stack.wait_for_prefect()
    down()

`up` and `down` may be called at any time, any number of times, by several commands at once, and after either was
killed: what runs is found by its identity, what is stale is recovered.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from infra.local import accounts, ports, roles
from infra.local.commerce import CommerceApi
from infra.local.errors import NotUp
from infra.local.home import MIN_FREE_BYTES, MIN_FREE_BYTES_WITH_DATA, Home, read_json, write_private
from infra.local.postgres import PORT_VARIABLE, Cluster
from infra.local.prefect_server import PrefectServer, api_url
from infra.local.process import Running
from infra.local.service import address

if TYPE_CHECKING:
    from flows.access.rotation import Rotated

Step = Callable[[str], None]

#: The addresses in stack.json: name → (role, database).
_URLS = {
    "warehouse_admin": (roles.ADMIN, "warehouse"),
    "warehouse_loader": ("medallion_loader", "warehouse"),
    "warehouse_transformer": ("medallion_transformer", "warehouse"),
    "warehouse_reader": ("medallion_reader", "warehouse"),
    "warehouse_reviewer": ("medallion_reviewer", "warehouse"),
    "warehouse_dashboard": ("medallion_dashboard", "warehouse"),
    "postgres_backup": ("medallion_backup", "postgres"),
    "shop_admin": (roles.ADMIN, "shop"),
    "shop_app": ("shop_app", "shop"),
    "shop_extractor": ("medallion_extractor", "shop"),
}


@dataclass(frozen=True)
class PostgresAddress:
    port: int
    pid: int
    data: str


@dataclass(frozen=True)
class PrefectAddress:
    api_url: str
    ui_url: str
    pid: int
    auth_string: str = field(repr=False)


@dataclass(frozen=True)
class CommerceAddress:
    url: str
    api_key: str = field(repr=False)
    pid: int


@dataclass(frozen=True)
class Stack:
    """What runs and how to reach it: the content of stack.json. `urls` hold passwords; they stay out of its repr.

    `home` is where it was started: in a copy of that folder, or after a move, nothing of it holds.
    """

    home: str
    postgres: PostgresAddress
    urls: Mapping[str, str] = field(repr=False)
    prefect: PrefectAddress
    commerce: CommerceAddress | None = None

    @classmethod
    def load(cls, home: Home | None = None) -> "Stack":
        """The stack that `up` left running.

        Says what was started, not that it still runs: `status` asks. Raises NotUp when none was started.
        """
        home = home or Home.find()
        found: dict[str, Any] | None = read_json(home.stack_file)
        try:
            if found is None or found["home"] != str(home.root):
                raise KeyError("stack.json")
            commerce = found.get("commerce")
            return cls(
                found["home"],
                PostgresAddress(**found["postgres"]),
                dict(found["urls"]),
                PrefectAddress(**found["prefect"]),
                CommerceAddress(**commerce) if commerce else None,
            )
        except (KeyError, TypeError) as error:
            raise NotUp(
                "the embedded stack is not running",
                where=str(home.root),
                fix="run `medallion up`, or set MEDALLION_WAREHOUSE_URL and PREFECT_API_URL to your own servers",
            ) from error

    def save(self, home: Home) -> None:
        """Write stack.json, readable by its owner only."""
        write_private(home.stack_file, {name: part for name, part in asdict(self).items() if part is not None})

    def wait_for_prefect(self, home: Home | None = None, timeout: float = 120.0) -> None:
        """Block until the Prefect server answers. Raises ServiceFailed, DiskFull, NotOurs."""
        port = int(self.prefect.ui_url.rpartition(":")[2])
        PrefectServer.of(home or Home.find(), self.prefect.auth_string).wait(Running(self.prefect.pid, port), timeout)


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `medallion status`. The address holds no password."""

    name: str
    state: Literal["running", "starting", "stopped"]
    pid: int | None = None
    address: str | None = None
    log: Path | None = None


def up(
    wait: bool = True,
    on_step: Step | None = None,
    with_commerce: bool = False,
    *,
    home: Home | None = None,
    min_free_bytes: int | None = None,
) -> Stack:
    """Bring the stack up, starting only what does not run yet.

    Returns when PostgreSQL accepts connections and its roles are set up; with `wait`, when Prefect responds as well.
    `on_step` is told each step in words for a person. `with_commerce` starts the demo's API too and waits for it.
    `min_free_bytes` on the disk are asked for: unless given, 3 GB for a new stack and 256 MB for one with data.
    Raises PortTaken, NotOurs, DiskFull, FolderUnusable, ServiceFailed.
    """
    home = home or Home.find()
    tell = on_step or _say_nothing
    if min_free_bytes is None:
        min_free_bytes = MIN_FREE_BYTES_WITH_DATA if home.has_cluster() else MIN_FREE_BYTES
    home.prepare(min_free_bytes=min_free_bytes)
    with home.lock():
        credentials = accounts.credentials_of(home)
        cluster = Cluster(home.postgres)
        found = cluster.running() is not None
        postmaster = cluster.start(
            admin_password=credentials[roles.ADMIN],
            port=None if found else ports.configured("PostgreSQL", PORT_VARIABLE),
        )
        tell(f"PostgreSQL {'was running' if found else 'started'} on port {postmaster.port}")
        # Before Prefect, whose database this creates; it takes 0.1 s.
        for line in accounts.apply_roles(cluster, postmaster, credentials):
            tell(line)
        tell("Roles and privileges are set up")
        database = accounts.prefect_database(home, cluster, postmaster.port, credentials)
        prefect = PrefectServer.of(home, credentials[accounts.PREFECT_AUTH], database)
        found = prefect.stop_unproven() is not None
        server = prefect.start()
        tell(f"Prefect {'was running' if found else 'is starting'} on port {server.port}")
        if prefect.database_url is None:
            tell("Prefect uses SQLite, as in an earlier release: docs/maintenance.md describes the move to PostgreSQL")
        commerce = _commerce(home, credentials["commerce_api_key"])
        api = commerce.stop_unproven()
        if with_commerce:
            api = commerce.start()
        if with_commerce and api is not None:
            commerce.wait(api)
            tell(f"Commerce API is up on port {api.port}")
        stack = Stack(
            str(home.root),
            PostgresAddress(postmaster.port, postmaster.pid, str(cluster.data)),
            {
                name: cluster.url(*accounts.login(role, credentials), postmaster.port, database)
                for name, (role, database) in _URLS.items()
            },
            PrefectAddress(api_url(server.port), address(server.port), server.pid, prefect.secret),
            CommerceAddress(address(api.port), commerce.secret, api.pid) if api is not None else None,
        )
        stack.save(home)
    if wait:
        stack.wait_for_prefect(home)
        tell(f"Prefect is up at {stack.prefect.ui_url}")
    return stack


def down(*, home: Home | None = None) -> list[str]:
    """Stop what the stack started, and nothing else; data and passwords stay. Returns the names of what stopped."""
    home = home or Home.find()
    if not home.root.is_dir():
        return []
    with home.lock():
        stopped = [service.name for service in (_commerce(home), PrefectServer.of(home)) if service.stop()]
        if Cluster(home.postgres).stop():
            stopped.append("PostgreSQL")
        home.stack_file.unlink(missing_ok=True)
    return stopped


def status(*, home: Home | None = None) -> list[ServiceStatus]:
    """What runs now, asked of the processes and the servers themselves. Changes nothing."""
    home = home or Home.find()
    cluster = Cluster(home.postgres)
    postmaster = cluster.running()
    if postmaster is None:
        found = [ServiceStatus("PostgreSQL", "stopped", log=cluster.log)]
    else:
        state: Literal["running", "starting"] = "running" if cluster.ready() else "starting"
        where = f"{ports.HOST}:{postmaster.port}"
        found = [ServiceStatus("PostgreSQL", state, postmaster.pid, where, cluster.log)]
    known = accounts.known_credentials(home)
    prefect = PrefectServer.of(home, known.get(accounts.PREFECT_AUTH, ""))
    for service in (prefect, _commerce(home, known.get("commerce_api_key", ""))):
        running = service.running()
        if running is None:
            found.append(ServiceStatus(service.name, "stopped", log=service.log))
        else:
            state = "running" if service.healthy(running) else "starting"
            found.append(ServiceStatus(service.name, state, running.pid, address(running.port), service.log))
    return found


def _commerce(home: Home, secret: str = "") -> CommerceApi:  # nosec B107 - to find and stop it needs none
    return CommerceApi(home.commerce, home.run / "commerce", home.logs / "commerce.log", secret)


def rotate(
    role: Literal["loader", "transformer", "reader"], *, now: bool = False, home: Home | None = None
) -> "Rotated":
    """Switch the role's URLs to its other account, with a new password; the old one stays valid.

    Raises NotUp, ConfigurationError.
    """
    # The platform's own rotation; code that only starts servers need not import it.
    from flows.access.rotation import rotate_role
    from flows.failures.failpoints import pass_failpoint
    from flows.values.connection import DatabaseConnection
    from flows.values.settings import settings

    home = home or Home.find()
    with home.lock():
        stack = Stack.load(home)
        credentials = accounts.credentials_of(home)
        key = f"warehouse_{role}"
        owner, database = _URLS[key]
        former = credentials.get(f"{owner}_login", owner)

        def store(url: str) -> None:
            account, password = urlsplit(url).username, urlsplit(url).password
            assert account is not None
            assert password is not None
            kept = {**credentials, account: password, f"{owner}_login": account}
            if now:  # else the next `up` would give the former account its old password again
                kept[former] = secrets.token_urlsafe(24)
            # The passwords first: `up` makes the addresses of them.
            write_private(home.credentials_file, kept)
            pass_failpoint("rotate_between_files", settings().failpoint)
            replace(stack, urls={**stack.urls, key: url}).save(home)

        cluster = Cluster(home.postgres)
        admin = cluster.url(roles.ADMIN, credentials[roles.ADMIN], stack.postgres.port, database)
        return rotate_role(admin, DatabaseConnection("warehouse", stack.urls[key]), store, now=now)


def _say_nothing(_: str) -> None:
    pass
