"""Positions: each event once, in the order of its offsets, whatever order files come in, and whatever comes again."""

import gzip
import json
from dataclasses import replace

import pytest

from flows.kinds.debezium import Manifest, Settled
from flows.kinds.debezium import load as loading
from flows.kinds.debezium.position import Partition
from flows.values.errors import DataRefused, DeclarationError, MedallionError
from flows.values.settings import settings
from flows.verbs.cursor import move_cursor, stored_cursors
from tests.kinds.debezium.loading import ITEMS, Events, event, item


async def test_files_in_another_order_than_their_offsets_are_read_in_that_of_offsets(events: Events) -> None:
    events.put("a.jsonl", [event(2, "u", item(1, "last")), event(3, "d", before=item(2))])
    events.put("b.jsonl", [event(0, "c", item(1, "first")), event(1, "c", item(2))])

    await events.load()

    assert events.raw("id, name", "true") == [(1, "last")]


async def test_partitions_are_read_each_by_its_own_offsets(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1)), event(0, "c", item(2), partition=1), event(1, "u", item(1, "b"))])
    await events.load()
    events.put("b.jsonl", [event(1, "u", item(2, "b"), partition=1)])

    await events.load()

    assert events.raw("id, name, _partition, _offset") == [(1, "b", 0, 1), (2, "b", 1, 1)]
    assert events.ask("select cursor_value from ops.cursors") == [("0:2 1:2",)]


async def test_events_that_come_again_change_nothing(events: Events) -> None:
    """Under another name, at the end of a file, or twice in one: an old version must not win over a new one."""
    first = [event(0, "c", item(1, "old")), event(1, "c", item(2))]
    events.put("a.jsonl", [*first, first[1]])
    await events.load()
    events.put("b.jsonl", [event(2, "u", item(1, "new"))])
    await events.load()
    before = events.ask("select i::text from raw_events.items i")
    events.put("c.jsonl", first)
    events.put("a.jsonl", [*first, event(2, "u", item(1, "new"))])

    result = await events.load()

    assert result.counts.changed == 0
    assert events.ask("select i::text from raw_events.items i") == before
    assert result.warning is None


async def test_a_file_that_grows_is_read_from_where_it_was(events: Events) -> None:
    lines = [event(0, "c", item(1)), event(1, "c", item(2))]
    events.put("a.jsonl", lines)
    await events.load()
    events.put("a.jsonl", [*lines, event(2, "u", item(1, "b"))])

    result = await events.load()

    assert (result.counts.rows_read, events.raw("id, name")) == (1, [(1, "b"), (2, "a")])
    again = await events.planned()
    assert "no new file" in again.plan.reason


async def test_a_topic_that_was_made_again_is_noticed_by_another_event_at_a_known_offset(events: Events) -> None:
    """Its offsets begin at 0 again, so that every event of it would count as one that came again."""
    events.put("a.jsonl", [event(0, "c", item(1)), event(1, "c", item(2))])
    await events.load()
    events.put("b.jsonl", [event(0, "c", item(7))])

    with pytest.raises(DataRefused, match="offsets have stepped back") as refused:
        await events.load()

    assert "medallion reload events.items" in refused.value.fix
    assert events.raw("id") == [(1,), (2,)]


async def test_a_topic_that_was_made_again_is_noticed_by_its_timestamps(events: Events) -> None:
    """Between the offsets whose checksums are stored: the broker's timestamp of a known offset is never the newest."""
    events.put("a.jsonl", [event(number, "c", item(number), ts=1_000 + number) for number in range(5)])
    await events.load()
    events.put("b.jsonl", [event(2, "c", item(2), ts=1_002)])
    assert (await events.load()).counts.changed == 0
    events.put("c.jsonl", [event(2, "c", item(9), ts=2_000)])

    with pytest.raises(DataRefused, match="offsets have stepped back"):
        await events.load()


async def test_two_events_of_one_offset_are_refused(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1))])
    events.put("b.jsonl", [event(0, "c", item(2))])

    with pytest.raises(DataRefused, match="another event at offset 0"):
        await events.load()


async def test_a_file_that_comes_late_is_not_put_before_what_was_loaded(events: Events) -> None:
    """Its offsets are below the position: as events that came again, they would be lost without a word."""
    events.put("a.jsonl", [event(0, "c", item(1))])
    events.put("c.jsonl", [event(2, "d", before=item(1))])
    result = await events.load()
    assert "offsets 1 to 1 of partition 0 are in no file" in str(result.warning)
    events.put("b.jsonl", [event(1, "c", item(2))])

    with pytest.raises(DataRefused, match=r"1 events came after later ones were loaded .*0:1"):
        await events.load()

    await _reload(events)
    assert (await events.load()).strategy == "reload"
    assert events.raw("id") == [(2,)]


async def test_gaps_within_a_file_are_those_of_the_topic(events: Events) -> None:
    """Compaction and transactions leave them; nothing is missing."""
    events.put("a.jsonl", [event(0, "c", item(1)), event(7, "c", item(2))])

    assert (await events.load()).warning is None


async def test_a_load_that_dies_between_commits_goes_on_from_the_last_one(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and position are never apart: what was committed is not folded again, and nothing is lost."""
    monkeypatch.setattr(loading, "CHANGES", 2)
    events.put("a.jsonl", [event(number, "c", item(number)) for number in range(6)])
    publish, seen = loading._Loading.publish, list[int]()

    async def dying(self: loading._Loading, commit: loading._Commit) -> object:
        if len(seen) == 2:
            raise ConnectionResetError
        seen.append(1)
        return await publish(self, commit)

    with monkeypatch.context() as patch:
        patch.setattr(loading._Loading, "publish", dying)
        with pytest.raises(MedallionError):
            await events.load()
    assert events.raw("id") == [(0,), (1,), (2,), (3,)]
    assert events.ask("select cursor_value from ops.cursors") == [("0:4",)]

    result = await events.load()

    assert (result.counts.rows_read, len(events.raw("id"))) == (2, 6)


async def test_a_commit_ends_with_a_transaction_of_the_source(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "CHANGES", 2)
    of = [{"source": {"txId": tx, "ts_ms": 1}} for tx in (1, 2, 2, 2, 3)]
    events.put("a.jsonl", [event(number, "c", item(number), **more) for number, more in enumerate(of)])

    await events.load()

    assert events.ask("select count(*)::int from raw_events.items group by _batch_id order by _batch_id") == [
        (4,),
        (1,),
    ]


# -- everything again


async def test_a_reload_reads_everything_and_deletes_what_no_event_has(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHANGES", 3)
    events.put("a.jsonl", [event(number, "c", item(number)) for number in range(8)])
    await events.load()
    events.ask("insert into raw_events.items select 99, 'stray', 1, null, 0, 1, now(), 'events', 1 returning id")
    await _reload(events)

    result = await events.load()

    assert (result.strategy, result.counts.rows_deleted) == ("reload", 1)
    assert [row[0] for row in events.raw("id")] == [*range(8)]


async def test_a_reload_of_files_that_do_not_reach_back_deletes_nothing(events: Events) -> None:
    path = events.put("a.jsonl", [event(0, "c", item(1))])
    events.put("b.jsonl", [event(1, "c", item(2))])
    await events.load()
    path.unlink()
    await _reload(events)

    result = await events.load()

    assert events.raw("id") == [(1,), (2,)]
    assert "do not reach back to offset 0" in str(result.warning)


async def test_a_reload_that_would_delete_most_rows_is_refused(events: Events) -> None:
    """As one of a topic that was made again, whose snapshot is not there yet."""
    path = events.put("a.jsonl", [event(number, "c", item(number)) for number in range(200)])
    await events.load()
    path.unlink()
    events.put("b.jsonl", [event(0, "r", item(1))])
    await _reload(events)

    with pytest.raises(DataRefused, match=r"more than the declared share of 0\.5"):
        await events.load()

    assert len(events.raw("id")) == 200
    await events.load(replace(ITEMS, max_deleted=1.0))
    assert events.raw("id") == [(1,)]


async def test_another_topic_means_a_reload(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1)), {**event(0, "c", item(2)), "topic": "shop2.public.items"}])
    await events.load()

    result = await events.load(replace(ITEMS, topic="shop2.public.items", max_deleted=1.0))

    assert (result.strategy, events.raw("id")) == ("reload", [(2,)])
    assert events.ask("select identity ->> 'topic' from ops.cursors") == [("shop2.public.items",)]


async def _reload(events: Events) -> None:
    events.ask(
        "insert into ops.reload_requests (source_system, table_name, requested_by) values ('events', 'items', 'ada') "
        "returning 1"
    )


# -- files that are not complete


async def test_a_last_line_that_is_cut_short_leaves_the_file_for_the_next_load(events: Events) -> None:
    text = json.dumps(event(1, "c", item(2)))
    path = events.root / "a.jsonl"
    path.write_text(json.dumps(event(0, "c", item(1))) + "\n" + text[:40], encoding="utf-8")

    result = await events.load()
    assert (events.raw("id"), events.quarantine()) == ([], [])
    assert "cut short" in str(result.warning)

    with path.open("a", encoding="utf-8") as file:
        file.write(text[40:])
    await events.load()
    assert events.raw("id") == [(1,), (2,)]


async def test_a_file_is_left_alone_until_it_is_complete(events: Events) -> None:
    events.put("a.jsonl", [event(0, "c", item(1))])

    waiting = await events.load(ready=Settled("1 h"))
    assert (events.raw("id"), "written to a moment ago" in str(waiting.warning)) == ([], True)

    (events.root / "a.manifest.json").write_text(json.dumps({"files": [{"name": "a.jsonl", "rows": 2}]}))
    contradicted = await events.load(ready=Manifest("*.manifest.json"))
    assert (events.raw("id"), "its manifest says 2" in str(contradicted.warning)) == ([], True)


async def test_packed_files(events: Events) -> None:
    pytest.importorskip("pyarrow", reason="the extra `files` is not installed")
    data = gzip.compress(json.dumps(event(0, "c", item(1))).encode() + b"\n")
    (events.root / "a.jsonl.gz").write_bytes(data)

    await events.load(replace(ITEMS, match="*.jsonl.gz"))

    assert events.raw("id") == [(1,)]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PK\x03\x04 and more\n", "it is a zip archive"), (b"a;b;c\n" * 10_001, "more than 10,000 of its lines")],
    ids=["zip", "another layout"],
)
async def test_a_file_of_another_layout_is_left_alone_whole(events: Events, content: bytes, said: str) -> None:
    """Its lines would fill quarantine, each as a row of its own."""
    (events.root / "a.jsonl").write_bytes(content)
    events.put("b.jsonl", [event(0, "c", item(1))])

    result = await events.load()

    assert (events.raw("id"), events.quarantine()) == ([(1,)], [])
    assert said in str(result.warning)


async def test_a_persons_look_at_the_position(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown, and cannot be moved: what lies between two positions are changes, not rows."""
    events.put("a.jsonl", [event(0, "c", item(1)), event(5, "c", item(2), partition=3)])
    await events.load()
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", events.warehouse.url("loader"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (events.source(ITEMS),))
    settings.cache_clear()

    (shown,) = await stored_cursors(["events.items"])

    assert (shown.value, shown.identity["topic"]) == ("0:1 3:6", "shop.public.items")
    with pytest.raises(DeclarationError, match="no stored value") as refused:
        await move_cursor("events.items", None, "ada")
    assert "medallion reload events.items" in refused.value.fix
    settings.cache_clear()


def test_ranges_stay_bounded_and_forget_the_oldest_gap() -> None:
    part = Partition()
    for offset in range(0, 3_000, 3):
        part.read(offset, offset, follows=False)
        part.mark(offset, offset)

    assert len(part.ranges) == 500
    assert (part.first, part.next) == (0, 2998)
    assert (part.has(2_996), part.has(2_997), part.has(1)) == (False, True, True)
    assert (len(part.marks), min(part.marks)) == (50, 0)
