"""Each alert of the watch has a runbook, and each runbook an alert."""

import re

from flows.operations.checks.names import WATCH_ALERTS
from flows.operations.messages import runbook_of
from tests.conftest import ROOT
from tests.docs.markdown import anchors_of

PAGE = ROOT / "docs/watch.md"


def test_every_alert_of_the_watch_has_a_section_that_its_message_links_to() -> None:
    anchors = anchors_of(PAGE)
    assert {name for name in WATCH_ALERTS if runbook_of(name).partition("#")[2] not in anchors} == set()
    assert runbook_of("load failed") == "docs/monitoring.md#load-failed"


def test_every_name_that_a_check_gives_is_one_of_them() -> None:
    """Else its link would lead to the page of other alerts."""
    files = [*(ROOT / "flows/operations/checks").glob("*.py"), ROOT / "infra/backup/overdue.py"]
    given = {
        name for file in files for name in re.findall(r"Condition\(\s*\"([^\"]+)\",", file.read_text(encoding="utf-8"))
    }
    assert len(given) > 10
    assert given <= WATCH_ALERTS


def test_every_alert_has_its_severity_in_its_section() -> None:
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {section.partition("\n")[0]: section for section in sections}
    for name in WATCH_ALERTS:
        assert re.search(r"^(Critical|Error|Warning)", named[name].partition("\n\n")[2]), name
