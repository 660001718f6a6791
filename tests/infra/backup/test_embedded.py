"""The embedded stack, lost with its machine: cluster, Prefect's database and passwords come back together."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import httpx
import psycopg
import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.access.erasure_key import erasure_key
from flows.access.mask_key import mask_key
from flows.values.settings import settings
from infra.backup import key, service
from infra.backup.aside import aside
from infra.backup.catalog import open_catalog
from infra.backup.errors import InTheWay
from infra.backup.recover import Recovery, recovered
from infra.backup.restore import restore_embedded
from infra.backup.store import open_store
from infra.backup.take import take
from infra.local import stack
from infra.local.account import account_for
from infra.local.home import Home, read_json
from tests.conftest import fastest_folder

pytestmark = pytest.mark.xdist_group("backup")
LITTLE = 64 * 1024**2


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home in which backups are configured; what runs in it is stopped whatever happens."""
    root = Path(mkdtemp(prefix="mdl-", dir=fastest_folder()))
    root.chmod(0o711)
    found = Home(root / ".medallion")
    monkeypatch.setenv("MEDALLION_HOME", str(found.root))
    monkeypatch.setenv("MEDALLION_BACKUP_TO", str(root / "store"))
    monkeypatch.setenv("MEDALLION_BACKUP_KEY_FILE", str(root / "backup.key"))
    monkeypatch.setenv("MEDALLION_BACKUP_INTERVAL_SECONDS", "0.3")
    settings.cache_clear()
    yield found
    service.ARCHIVER.stop(found)
    stack.down(home=found)
    settings.cache_clear()
    rmtree(root, ignore_errors=True)


def run(url: str, *statements: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as session:
        for statement in statements:
            session.execute(statement.encode())


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with closing(psycopg.connect(url, autocommit=True)) as session:
        return session.execute(query.encode()).fetchall()


def talking_to(of: stack.Stack) -> AbstractContextManager[object]:
    """Prefect in this process talks to the stack's server."""
    at = of.prefect
    return temporary_settings({PREFECT_API_URL: at.api_url, PREFECT_API_AUTH_STRING: at.auth_string})


def client_of(of: stack.Stack) -> httpx.Client:
    user, _, password = of.prefect.auth_string.partition(":")
    return httpx.Client(base_url=of.prefect.api_url, auth=(user, password))


@pytest.mark.long
def test_a_lost_machine_comes_back_with_its_warehouse_its_passwords_and_its_prefect(home: Home) -> None:
    keys = key.make(home.root.parent / "backup.key")
    running = stack.up(home=home, min_free_bytes=LITTLE)
    with talking_to(running):
        Secret(value="what a block keeps").save("kept", _sync=True)  # type: ignore[call-arg]  # Prefect's dispatcher
    with client_of(running) as prefect:
        flow = prefect.post("/flows/", json={"name": "ingest"}).json()["id"]
        made = prefect.post("/deployments/", json={"name": "ingest-shop", "flow_id": flow})
        assert made.status_code == 201
    erasures, masks = erasure_key(), mask_key().key
    assert service.start(home) is not None
    backup = take(open_store(), keys, home=home)
    assert backup.stack
    # A commit right before the end: PostgreSQL hands it over to the archiver before it stops.
    run(running.urls["warehouse_loader"], "create table ops.proof (n int)", "insert into ops.proof values (7)")
    credentials = read_json(home.credentials_file)
    stack.down(home=home)
    service.ARCHIVER.stop(home)
    with pytest.raises(InTheWay):
        restore_embedded(home, Recovery(open_catalog(open_store()), keys), on_step=lambda _: None)
    shutil.rmtree(home.root)

    done = restore_embedded(home, Recovery(open_catalog(open_store()), keys), on_step=lambda _: None)

    assert done.aside is None
    back = stack.Stack.load(home)
    assert rows(back.urls["warehouse_loader"], "select n from ops.proof") == [(7,)]
    assert read_json(home.credentials_file) == credentials
    assert erasure_key() == erasures, "who was erased would not be recognised any more"
    assert mask_key().key == masks, "hashed columns would not join any more"
    with talking_to(back):
        assert Secret.load("kept", _sync=True).get() == "what a block keeps"  # type: ignore[call-arg, union-attr]
    with client_of(back) as prefect:
        assert prefect.get("/deployments/name/ingest/ingest-shop").status_code == 200
    # The log is archived from here on, on a timeline of its own, to which the backup from before still leads.
    run(back.urls["warehouse_loader"], "insert into ops.proof values (8)")
    stack.down(home=home)
    service.ARCHIVER.stop(home)
    with (
        aside(home.root, account_for(home.postgres)) as folder,
        recovered(Recovery(open_catalog(open_store()), keys), folder, account=account_for(home.postgres)) as found,
    ):
        assert (found.backup.label, found.backup.timeline) == (backup.label, 1)
        assert rows(found.cluster.url("medallion_loader", "warehouse"), "select n from ops.proof") == [(7,), (8,)]
