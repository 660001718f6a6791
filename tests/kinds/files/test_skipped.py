"""Files that somebody has to correct are part of the result, in every place where it is read."""

import pytest

from flows.declare import Replace
from flows.kinds.files import Csv, Marker, left
from flows.values.result_words import in_words
from tests.kinds.files.loading import Drop

CONTRADICTED = "x;y\n2;two\nT;2\n"
TRAILER = Csv(delimiter=";", trailer=r"^T;(?P<rows>\d+)")


async def test_a_skipped_file_is_part_of_the_result_until_it_is_corrected(drop: Drop) -> None:
    drop.put("whole.csv", "x;y\n1;one\nT;1\n")
    drop.put("cut.csv", CONTRADICTED)
    first = await drop.load(format=TRAILER)
    assert first.counts.reconciliation == "not_compared"
    said = in_words(first.counts)
    assert said is not None
    assert said.startswith("1 file was skipped: cut.csv: ")
    assert said in str(first.warning)
    compared = await drop.compare(format=TRAILER)
    assert (compared.result, compared.note) == ("not_compared", "1 file is not loaded, so rows cannot be counted")

    again = await drop.load(format=TRAILER)
    assert again.counts.skipped == first.counts.skipped  # nothing new came, and still not all is there

    drop.put("cut.csv", "x;y\n2;two\n3;three\nT;2\n")
    corrected = await drop.load(format=TRAILER)
    assert (corrected.counts.reconciliation, corrected.counts.skipped) == ("match", None)
    assert (await drop.compare(format=TRAILER)).result == "match"


async def test_a_refused_file_is_not_compared(drop: Drop) -> None:
    """No row of it is in raw: that raw has all rows of the files that it has read is no match."""
    drop.put("bad.csv", "x;y\n1;one\n")
    assert (await drop.compare()).result == "not_compared"
    await drop.load()
    assert (await drop.compare()).result == "match"


@pytest.mark.parametrize(("patience", "is_told"), [(3600.0, False), (0.0, True)])
async def test_a_file_that_waits_too_long_for_its_marker_is_told(
    drop: Drop, monkeypatch: pytest.MonkeyPatch, patience: float, is_told: bool
) -> None:
    monkeypatch.setattr(left, "_PATIENCE", patience)
    drop.put("late.csv", "x;y\n1;one\n")
    result = await drop.load(ready=Marker("{name}.done"))
    assert "its marker is not there yet" in str(result.warning)
    assert (result.counts.skipped is not None) == is_told
    drop.put("late.csv.done", "")
    assert (await drop.load(ready=Marker("{name}.done"))).counts.reconciliation == "match"


async def test_of_a_table_that_is_replaced_older_files_are_not_missing(drop: Drop) -> None:
    drop.put("2026-01-01.csv", "x;y\n1;one\n")
    drop.put("2026-01-02.csv", "x;y\n2;two\n")
    result = await drop.load(load=Replace(), match="{day:%Y-%m-%d}.csv")
    assert (result.counts.reconciliation, result.counts.skipped) == ("match", None)
    assert (await drop.compare(load=Replace(), match="{day:%Y-%m-%d}.csv")).result == "match"
