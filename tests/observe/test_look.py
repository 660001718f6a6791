"""Screens: tables that stay readable on a narrow terminal."""

import io

import pytest
from rich.console import Console

from flows.observe.look import grid, number

NAMES = ["marketing.campaign_targets", "currency.exchange_rates"]


def shown(width: int) -> str:
    table = grid("Plan", ["table", "rows", "extra", "from cursor", "why"], ["rows", "extra"])
    for name in NAMES:
        table.add_row(
            name,
            number(1_469_259),
            number(0, dim_zero=True),
            "2026-11-30 19:59:52.869574+00",
            "merge of [changed] rows",
        )
    table.caption = "a note"
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(table)
    return out.getvalue()


@pytest.mark.parametrize("width", [30, 60, 80, 90, 100, 150])
def test_no_name_and_no_number_is_broken_at_any_width(width: int) -> None:
    text = shown(width)
    assert all(len(line) <= width for line in text.splitlines())
    assert all(text.count(whole) == 1 for whole in NAMES)
    assert text.count("1,469,259") == len(NAMES)
    assert ("[changed]" in text, "a note" in text) == (True, True)


def test_a_narrow_terminal_shows_records_without_what_says_nothing() -> None:
    assert "extra" in shown(150)
    narrow = shown(60)
    assert "extra" not in narrow
    assert [line.rstrip() for line in narrow.splitlines()[:3]] == ["Plan", NAMES[0], "  rows         1,469,259"]
