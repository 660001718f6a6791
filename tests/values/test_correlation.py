"""The id of a run, and the forms in which it goes from one system to another."""

import contextvars

import pytest

from flows.values.correlation import (
    application_name,
    comment,
    correlated,
    correlation_id,
    handed_down,
    taken_over,
    trace_id,
    under_span,
)

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


def test_a_child_process_takes_over_what_its_parent_hands_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with correlated("run-1"), under_span(PARENT):
        handed = handed_down()
    assert handed == {"MEDALLION_CORRELATION_ID": "run-1", "TRACEPARENT": PARENT}
    monkeypatch.setenv("MEDALLION_CORRELATION_ID", handed["MEDALLION_CORRELATION_ID"])
    assert contextvars.Context().run(correlation_id) == "run-1"
    with taken_over(handed):
        assert handed_down() == handed
    assert handed_down() == {"MEDALLION_CORRELATION_ID": "run-1"}


@pytest.mark.parametrize("hostile", ["a*/ drop table x; --", "a'b", "a\nb", "ü" * 50, "x" * 500, " ", "-"])
def test_an_id_from_outside_can_break_out_of_nothing(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_CORRELATION_ID", hostile)
    with correlated() as identifier:
        assert len(identifier) <= 36
        assert set(identifier) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
        assert comment().count("*/") == 1
        assert comment().count("'") == 4


def test_the_name_of_a_session_keeps_the_id_however_long_the_table_is_called() -> None:
    assert application_name("medallion load shop.baskets") == "medallion load shop.baskets"
    with correlated("3f2a91c0b7d4"):
        assert application_name("medallion load shop.baskets") == "medallion load shop.baskets 3f2a91c0b7d4"
        long = application_name(f"medallion load shop.{'größe' * 20}")
    assert long.startswith("medallion load shop.gr")
    assert long.endswith(".. 3f2a91c0b7d4")
    assert len(long.encode()) == 63


def test_outside_of_a_run_there_is_no_id_no_comment_and_no_trace() -> None:
    assert (correlation_id(), comment(), trace_id(), handed_down()) == ("-", "", None, {})
