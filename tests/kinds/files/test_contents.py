"""Each content exactly once, whatever its name and its times; and files that are not whole are skipped."""

import gzip
import json
import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from flows.access.addresses import SourceAddress
from flows.declare import Merge, Replace
from flows.kinds.files import Csv, FileTable, Manifest, Marker, Settled
from flows.kinds.files.folder import LocalFolder
from flows.kinds.files.places import place_of
from flows.values.errors import ConfigurationError, DataRefused, SourceError
from tests.kinds.files.loading import LINES, Drop, ask, backdate

PRICES = FileTable(
    "lines", match="{day:%Y-%m-%d}*.csv", key="sku", load=Merge(), columns={"sku": "text", "price": "numeric(10,2)"}
)


async def test_a_content_is_loaded_once_whatever_its_name_and_times(drop: Drop) -> None:
    drop.put("a.csv", "x;y\n1;one\n2;two\n")
    first = await drop.load()
    drop.put("renamed.csv", "x;y\n1;one\n2;two\n")
    os.utime(drop.root / "a.csv")

    again = await drop.load()

    assert (first.counts.rows_inserted, again.counts.rows_read) == (2, 0)
    assert drop.raw("x, y, _file, _line") == [("1", "one", "a.csv", 2), ("2", "two", "a.csv", 3)]
    assert drop.files() == {"a.csv": "loaded", "renamed.csv": "same content"}
    assert (first.counts.reconciliation, again.counts.reconciliation) == ("match", "match")


async def test_one_content_under_two_names_in_one_load_is_loaded_once(drop: Drop) -> None:
    drop.put("a.csv", "x;y\n1;one\n")
    drop.put("b.csv", "x;y\n1;one\n")

    assert (await drop.load()).counts.rows_inserted == 1
    assert drop.files() == {"a.csv": "loaded", "b.csv": "same content"}


async def test_a_late_file_with_an_older_time_is_loaded(drop: Drop) -> None:
    drop.put("b.csv", "x;y\n1;one\n")
    await drop.load()
    backdate(drop.put("a.csv", "x;y\n2;late\n"), 90_000)

    await drop.load()

    assert drop.raw("x, y") == [("1", "one"), ("2", "late")]


async def test_new_content_of_the_same_size_and_modification_time_is_noticed(drop: Drop) -> None:
    os.utime(drop.put("a.csv", "x;y\n1;one\n"), (1e9, 1e9))
    await drop.load()
    os.utime(drop.put("a.csv", "x;y\n1;two\n"), (1e9, 1e9))

    await drop.load()

    assert drop.raw("x, y") == [("1", "two")]


async def test_new_content_under_a_known_name_does_as_is_declared(drop: Drop) -> None:
    drop.put("a.csv", "x;y\n1;one\n2;two\n")
    drop.put("b.csv", "x;y\n9;nine\n")
    await drop.load()
    drop.put("a.csv", "x;y\n2;two\n3;three\n")

    refused = await drop.load(same_name="refuse")
    assert "a.csv: it was loaded before with other content" in str(refused.warning)
    assert drop.raw("x, y") == [("1", "one"), ("2", "two"), ("9", "nine")]

    replaced = await drop.load(same_name="replace")
    assert drop.raw("x, y") == [("2", "two"), ("3", "three"), ("9", "nine")]
    assert (replaced.counts.rows_deleted, replaced.counts.reconciliation) == (2, "match")

    drop.put("a.csv", "x;y\n4;four\n")
    await drop.load(same_name="add")
    assert [row[0] for row in drop.raw("x, y")] == ["2", "3", "4", "9"]
    assert (await drop.compare(same_name="add")).result == "match"


async def test_a_replaced_file_with_a_key_updates_and_marks_what_it_lacks(drop: Drop) -> None:
    prices = replace(PRICES, match="*.csv", format=Csv())
    drop.put("a.csv", "sku,price\n1,1.00\n2,2.00\n3,3.00\n")
    await drop.load(prices)
    drop.put("a.csv", "price,sku\n9.00,1\n2.00,2\n")

    result = await drop.load(prices)

    counts = result.counts
    assert (counts.rows_updated, counts.rows_deleted, counts.rows_unchanged) == (1, 1, 1)
    assert [(row[0], str(row[1])) for row in drop.raw("sku, price")] == [("1", "9.00"), ("2", "2.00")]


async def test_of_several_files_with_one_key_the_newest_by_its_path_counts(drop: Drop) -> None:
    prices = replace(PRICES, match="{shop}/{day:%d.%m.%Y}.csv")
    drop.put("a/02.01.2026.csv", "sku,price\n1,2.00\n")
    drop.put("b/01.02.2026.csv", "sku,price\n1,3.00\n")
    drop.put("c/03.01.2026.csv", "sku,price\n1,1.00\n")

    await drop.load(prices)

    ((sku, price, shop, day),) = drop.raw("sku, price, shop, day")
    assert (sku, str(price), shop, day) == ("1", "3.00", "b", date(2026, 2, 1))


async def test_a_replace_is_what_the_newest_file_holds(drop: Drop) -> None:
    stock = replace(PRICES, match="*.csv", load=Replace(), columns={"sku": "text"})
    drop.put("2026-01-01.csv", "sku\n1\n2\n3\n")
    drop.put("2026-01-02.csv", "sku\n2\n3\n4\n")
    first = await drop.load(stock)
    drop.put("2026-01-01b.csv", "sku\n7\n8\n9\n")
    await drop.load(stock)
    assert (first.counts.rows_inserted, drop.raw("sku, _line")) == (3, [("2", 2), ("3", 3), ("4", 4)])

    drop.put("2026-01-03.csv", "sku\n3\n4\n5\n")
    result = await drop.load(stock)

    assert (result.counts.rows_inserted, result.counts.rows_deleted, result.counts.rows_unchanged) == (1, 1, 2)
    assert result.counts.reconciliation == "match"


@pytest.mark.parametrize("key", ["x", ()])
async def test_rows_of_a_file_that_is_gone_stay_or_go_as_is_declared(drop: Drop, key: str | tuple[()]) -> None:
    table = replace(LINES, key=key)
    drop.put("a.csv", "x;y\n1;one\n")
    drop.put("b.csv", "x;y\n2;two\n3;three\n4;four\n")
    await drop.load(table)
    (drop.root / "a.csv").unlink()
    drop.put("c.csv", (drop.root / "b.csv").read_bytes())
    (drop.root / "b.csv").unlink()

    assert (await drop.load(table)).counts.rows_deleted == 0
    result = await drop.load(table, vanished="delete")

    assert result.counts.rows_deleted == 1
    assert [row[0] for row in drop.raw("x, y")] == ["2", "3", "4"], "b.csv was only renamed"
    assert (await drop.load(table, vanished="delete")).counts.rows_deleted == 0


async def test_a_folder_that_lost_most_of_its_files_deletes_nothing(drop: Drop) -> None:
    drop.put("a.csv", "x\n" + "".join(f"{number}\n" for number in range(200)))
    await drop.load(key="x", vanished="delete")
    (drop.root / "a.csv").unlink()

    with pytest.raises(DataRefused, match="1 files are gone, with 200 of 200 rows"):
        await drop.load(key="x", vanished="delete")

    drop.root.rename(drop.root.with_name("unmounted"))
    with pytest.raises(SourceError, match="the folder cannot be listed"):
        await drop.load(key="x", vanished="delete")


async def test_a_reload_reads_all_files_again_and_doubles_nothing(drop: Drop) -> None:
    for name in ("a", "b"):
        drop.put(f"{name}.csv", f"x;y\n1;{name}\n2;{name}\n")
    await drop.load()
    planned = await drop.planned()
    assert (planned.plan.strategy, planned.plan.reason) == ("append", "no new file; 2 loaded before")
    ask(
        drop.warehouse,
        "insert into ops.reload_requests (source_system, table_name, requested_by) values ('drop', 'lines', 'ada')",
    )

    result = await drop.load()

    assert (result.strategy, result.counts.rows_read, result.counts.reconciliation) == ("reload", 4, "match")
    assert drop.raw("x, y") == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]
    assert (await drop.load()).counts.rows_read == 0


WHOLE = "x;y\n1;one\n2;two\n"
CUT: dict[str, tuple[str | bytes, Csv, str]] = {
    "gzip": (gzip.compress(WHOLE.encode() * 500)[:-20], Csv(delimiter=";"), "gzip data is cut short"),
    "zstd": (bytes(pa.compress(WHOLE.encode() * 500, codec="zstd", asbytes=True))[:-5], Csv(delimiter=";"), "zstd"),
    "in a row": (WHOLE + "3;th\n4", Csv(delimiter=";"), "fewer columns and no end"),
    "in a quote": (WHOLE + '3;"thr\n4;four\n', Csv(delimiter=";"), "quoted value does not end"),
    "no newline": (WHOLE + "3;three", Csv(delimiter=";", final_newline="required"), "last line does not end"),
    "no trailer": (WHOLE, Csv(delimiter=";", trailer=r"^T;(?P<rows>\d+)"), "not the declared trailer"),
    "trailer": (WHOLE + "T;3\n", Csv(delimiter=";", trailer=r"^T;(?P<rows>\d+)"), "its trailer says 3"),
    "empty": ("", Csv(delimiter=";"), "no header"),
    "twice": ("x;x\n1;2\n", Csv(delimiter=";"), "its header has x twice"),
    "other encoding": ("x;y\n1;ü\n".encode("utf-16"), Csv(delimiter=";"), 'encoding="utf-16"'),
    "junk": (gzip.compress(WHOLE.encode()) + b"junk", Csv(delimiter=";"), "followed by something else"),
    "bomb": (gzip.compress(b"x;y\n" + b"0;0\n" * 1_000_000), Csv(delimiter=";"), "a decompression bomb"),
}


@pytest.mark.parametrize("case", CUT)
async def test_a_file_that_is_not_whole_is_left_alone_and_the_others_are_loaded(
    drop: Drop, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.kinds.files.content.HARMLESS", 1_000_000)
    content, csv, reason = CUT[case]
    drop.put("broken.csv", content)
    end = "" if csv.trailer is None else "T;1\n"
    drop.put("good.csv", "x;y\n9;nine\n" + end)

    result = await drop.load(format=csv)

    assert result.warning is not None
    assert result.warning.startswith("1 file was skipped: broken.csv: ")
    assert reason in result.warning
    assert drop.raw("x, y") == [("9", "nine")]
    assert drop.quarantine() == []
    drop.put("broken.csv", "x;y\n3;fixed\n" + end)
    assert (await drop.load(format=csv)).warning is None
    assert [row[0] for row in drop.raw("x, y")] == ["3", "9"]


async def test_a_file_that_changes_while_it_is_read_is_left_alone(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop.put("a.csv", WHOLE)
    look = LocalFolder.look

    def grown(folder: LocalFolder, name: str) -> object:
        with path.open("a") as file:
            file.write("3;three\n")
        return look(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "look", grown)
        result = await drop.load()
    assert "a.csv: it changed while it was read" in str(result.warning)
    assert result.counts.rows_read == 0

    assert (await drop.load()).counts.rows_inserted == 3


async def test_a_file_is_read_when_it_has_settled(drop: Drop) -> None:
    backdate(drop.put("a.csv", WHOLE), 3600)
    waiting = await drop.load(ready=Settled("1 h"))
    assert "a.csv: it was written to a moment ago" in str(waiting.warning)
    assert waiting.counts.rows_read == 0
    assert (await drop.load(ready=Settled("0 s"))).counts.rows_inserted == 2


async def test_a_file_is_read_when_its_marker_is_there(drop: Drop) -> None:
    drop.put("in/a.csv", WHOLE)
    assert "its marker is not there yet" in str((await drop.load(ready=Marker("{stem}.done"))).warning)
    drop.put("in/a.done", "")
    assert (await drop.load(ready=Marker("{stem}.done"))).counts.rows_inserted == 2


async def test_a_manifest_says_which_files_there_are_and_what_they_hold(drop: Drop) -> None:
    ready = Manifest("*.manifest.json")
    drop.put("in/a.csv", WHOLE)
    drop.put("in/b.csv", WHOLE + "3;three\n")
    drop.put("in/c.csv", WHOLE + "4;four\n")
    entries: list[object] = [{"name": "a.csv", "rows": 2}, {"name": "b.csv", "rows": 4}]
    drop.put("in/1.manifest.json", json.dumps({"files": entries}))

    result = await drop.load(ready=ready)

    assert "in/b.csv: it has 3 rows, and its manifest says 4" in str(result.warning)
    assert "in/c.csv: no manifest lists it yet" in str(result.warning)
    assert [row[0] for row in drop.raw("x, y")] == ["1", "2"]
    drop.put("in/2.manifest.json", "[")
    assert "its manifest 2.manifest.json cannot be read" in str((await drop.load(ready=ready)).warning)
    size = (drop.root / "in/c.csv").stat().st_size
    drop.put("in/2.manifest.json", json.dumps([{"name": "c.csv", "size": size + 1}]))
    assert "its manifest says" in str((await drop.load(ready=ready)).warning)
    drop.put("in/2.manifest.json", json.dumps([{"name": "c.csv", "size": size, "sha256": "0" * 64}]))
    assert "its hash is not that of its manifest" in str((await drop.load(ready=ready)).warning)
    drop.put("in/2.manifest.json", json.dumps(["c.csv"]))
    assert (await drop.load(ready=ready)).counts.rows_inserted == 3


async def test_links_that_leave_the_folder_and_what_is_no_file_are_left_alone(drop: Drop) -> None:
    outside = drop.root.parent / "secret.csv"
    outside.write_text(WHOLE)
    (drop.root / "link.csv").symlink_to(outside)
    (drop.root / "folder").symlink_to(drop.root.parent)
    os.mkfifo(drop.root / "pipe.csv")
    drop.put("real.txt", "x;y\n5;five\n")
    (drop.root / "inside.csv").symlink_to(drop.root / "real.txt")

    result = await drop.load()

    assert "link.csv: it is a link that leads out of the folder" in str(result.warning)
    assert "pipe.csv: it is no regular file" in str(result.warning)
    assert drop.raw("x, y, _file") == [("5", "five", "inside.csv")]


async def test_files_that_do_not_match_are_never_opened(drop: Drop) -> None:
    drop.put("2026-02-30.csv", "sku,price\n1,1.00\n")
    drop.put("2026-02-28.csv.part", "sku,price\n1,1.00\n")
    drop.put("2026-02-28 prices.csv", "sku,price\n1,1.00\n")

    await drop.load(PRICES)

    assert [row[0] for row in drop.raw("_file, sku")] == ["2026-02-28 prices.csv"]


async def test_many_small_files_are_one_load(drop: Drop) -> None:
    for number in range(300):
        drop.put(f"{number // 100}/{number}.csv", f"x;y\n{number};n\n")

    result = await drop.load()

    assert (result.counts.rows_inserted, result.chunks) == (300, 1)
    assert len(drop.files()) == 300


def test_a_place_names_a_folder(tmp_path: Path) -> None:
    for url, match in (("relative/path", "no absolute path"), ("nothing://host/x", "cannot be read from nothing://")):
        with pytest.raises(ConfigurationError, match=match):
            place_of(SourceAddress(url), "drop")
    assert place_of(SourceAddress(f"file://{tmp_path}"), "drop")
