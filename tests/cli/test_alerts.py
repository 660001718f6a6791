"""`medallion alerts`, as an operator uses it at night."""

import json
from collections.abc import Mapping

import pytest

from tests.conftest import TestDatabase
from tests.flows.front_door import Ended, medallion
from tests.operations.receivers import webhook
from tests.publish.two_ends import run_sql

FIRE = """
select ops.fire_alert(jsonb_populate_record(null::ops.alerts, jsonb_build_object(
    'name', 'late', 'subject', %s::text, 'severity', %s::text, 'what', 'two hours old', 'fix', 'run it',
    'cause', %s::text)))
"""


@pytest.fixture
def variables(warehouse: TestDatabase) -> Mapping[str, str]:
    return {"MEDALLION_WAREHOUSE_URL": warehouse.url("loader")}


def fire(warehouse: TestDatabase, subject: str, severity: str = "error") -> None:
    run_sql(warehouse.url("loader"), FIRE, [subject, severity, subject])


def ids(ended: Ended) -> list[int]:
    return [alert["id"] if "id" in alert else alert["alert_id"] for alert in json.loads(ended.out)]


def test_the_list_has_the_most_severe_first_and_its_exit_code_says_whether_somebody_must_come(
    warehouse: TestDatabase, variables: Mapping[str, str]
) -> None:
    empty = medallion("alerts", "list", variables=variables)
    assert (empty.code, empty.out.strip()) == (0, "no open alerts")
    fire(warehouse, "shop.stores", "warning")
    assert medallion("alerts", "list", variables=variables).code == 0
    fire(warehouse, "shop.baskets", "critical")
    shown = medallion("alerts", "list", variables=variables)
    assert shown.code == 1
    assert shown.out.index("shop.baskets") < shown.out.index("shop.stores")
    assert "two hours old" in shown.out


def test_an_alert_is_sent_shown_taken_up_and_silenced(warehouse: TestDatabase, variables: Mapping[str, str]) -> None:
    with webhook() as receiver:
        told = {**variables, "MEDALLION_ALERT_WEBHOOK_URL": receiver.url}
        fire(warehouse, "shop.baskets")
        run_sql(
            warehouse.url("loader"), "update ops.alert_transitions set happened_at = happened_at - interval '1 min'"
        )
        sent = medallion("alerts", "send", variables=told)
        assert (sent.code, sent.out.strip()) == (0, "1 messages written, 1 sent, 0 not accepted")
        (alert_id,) = ids(medallion("alerts", "list", "--json", variables=told))
        taken = medallion("alerts", "ack", str(alert_id), "--note", "looking into it", variables=told)
        assert taken.out.strip() == f"acknowledged: {alert_id}"
        # Taken up: nobody else must come.
        assert medallion("alerts", "list", variables=told).code == 0
        shown = medallion("alerts", "show", str(alert_id), variables=told)
        for part in ("two hours old", "run it", "docs/runbooks/late.md", "looking into it", "to default: sent"):
            assert part in shown.out, shown.text
        silenced = medallion("alerts", "silence", "late shop.*", "--for", "2 h", "--reason", "known", variables=told)
        assert silenced.out.startswith("silent until ")
        listed = medallion("alerts", "list", variables=told)
        assert "silenced" in listed.out
        assert "late shop.*" in listed.out
        assert medallion("alerts", "unsilence", "1", variables=told).code == 0
        medallion("alerts", "send", variables=told)

    assert receiver.events == ["opened", "silence ended", "acknowledged"]


def test_a_channel_is_tried_and_its_refusal_is_told_without_its_address(variables: Mapping[str, str]) -> None:
    with webhook() as good, webhook(answers=[500]) as bad:
        told = {**variables, "MEDALLION_ALERT_WEBHOOK_URL": good.url, "MEDALLION_ALERT_CHANNEL_ON_CALL": bad.url}
        assert medallion("alerts", "test", variables=told).code == 0
        tried = medallion("alerts", "test", "default", "on-call", variables=told)
        missing = medallion("alerts", "test", "nobody", "default", variables=told)

    assert tried.code == 3
    assert "default: accepted" in tried.out
    assert "on-call: the receiver answered 500" in tried.err
    assert "secret-in-the-path" not in tried.text
    assert good.events == ["test", "test", "test"]
    assert missing.code == 2
    assert "default: accepted" in missing.out
    assert "MEDALLION_ALERT_CHANNEL_NOBODY" in missing.panel


def test_ids_that_are_not_there_are_a_clear_error(variables: Mapping[str, str]) -> None:
    none = "7" * 20  # more than an id can be
    for command in (("show", "77"), ("ack", "77"), ("unsilence", "77"), ("show", none), ("unsilence", none)):
        ended = medallion("alerts", *command, variables=variables)
        assert ended.code == 2, ended.text
        assert command[1] in ended.panel
