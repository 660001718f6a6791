"""The two flows that a schedule starts: backups by night, drills by week, told in artifacts."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType

from flows.backup import backup, drill
from flows.values.settings import settings
from infra.backup.errors import TargetMissed
from tests.flows.prefect_facts import artifacts
from tests.infra.backup.conftest import Backed
from tests.kinds.loading import setting

pytestmark = pytest.mark.xdist_group("backup")


def test_a_nightly_backup_lets_go_of_what_nobody_keeps_and_a_drill_recovers_it(
    backed: Backed, prefect_server: str
) -> None:
    old = backed.back_up()

    made: State[Any] = backup(keep=1, return_state=True)
    facts = made.result()
    drilled: State[Any] = drill(sources=["shop.stores"], return_state=True)
    found = drilled.result()

    assert [each.label for each in backed.catalog.backups()] == facts["kept"] == [facts["backup"]]
    assert facts["expired"] == [old.label]
    assert facts["backup"] in artifacts(made)["backup"]
    assert found["backup"] == facts["backup"]
    assert [(line["table"], line["rows_read"]) for line in found["tables"]] == [("shop.stores", 5)]
    page = artifacts(drilled)["drill"]
    assert "page checksums | good" in page
    assert "shop.stores | match, 5 rows read" in page
    assert "None" not in page


@pytest.mark.parametrize(
    ("scheduled", "key", "what"),
    [(backup, "backup", "No backup was made"), (drill, "drill", "No drill was run")],
)
def test_without_a_key_a_run_says_what_to_configure_and_does_not_fail(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch, scheduled: Callable[..., State[Any]], key: str, what: str
) -> None:
    """It starts every night, also where nobody has set up backups: a failure would alert, and teach not to look."""
    for name in ("MEDALLION_BACKUP_KEY", "MEDALLION_BACKUP_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    ended = scheduled(return_state=True)
    settings.cache_clear()

    assert (ended.type, ended.name) == (StateType.COMPLETED, "NotConfigured")
    assert ended.message is not None
    assert what in ended.message
    assert "MEDALLION_BACKUP_KEY_FILE" in ended.message
    assert "the backup key" in artifacts(ended)[key]


@pytest.mark.long
def test_a_drill_that_misses_a_target_fails_and_says_by_how_much(backed: Backed, prefect_server: str) -> None:
    backed.back_up()
    with setting(backup_rto_seconds=0.1):
        missed: State[Any] = drill(sources=["shop.stores"], return_state=True)

    assert missed.is_failed()
    with pytest.raises(TargetMissed, match="recovery took"):
        missed.result()
    assert "recovery took" in artifacts(missed)["drill"]
