"""What is taken from a dlt source besides its records: hints, JSON, batches, and refusals."""

import datetime
import importlib
import resource as process
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import pytest

from flows.declare import Append, Merge, Replace
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt.failure import explain
from flows.kinds.dlt.hints import Said, settled
from flows.kinds.dlt.reader import DltReader
from flows.values.errors import ConfigurationError, DeclarationError, MedallionError, SourceError, SourceUnavailable

pytest.importorskip("dlt", reason="the extra `dlt` is not installed")

from flows.kinds.dlt.json import NotJson, record_encoder

pytestmark = pytest.mark.xdist_group("dlt")

SOURCES = "tests.kinds.dlt.sources"


def reader_of(build: str, resource: Resource) -> DltReader:
    return DltReader(DltSource("crm", build=build, resources=[resource]), resource, "crm.things")


# -- what is settled, and what is refused

PLAIN = Resource("r")


@pytest.mark.parametrize(
    ("declared", "said", "load", "keys"),
    [
        (PLAIN, Said(keys=("id",), disposition="merge"), Merge(), ("id",)),
        (PLAIN, Said(keys=("a", "b"), disposition="merge", strategy="upsert"), Merge(), ("a", "b")),
        (PLAIN, Said(keys=("id",), disposition="replace"), Replace(), ("id",)),
        (PLAIN, Said(keys=("id",), disposition="append", cursor="at"), Append(), ()),
        (Resource("r", load=Merge()), Said(keys=("id",), disposition="append", cursor="at"), Merge(), ("id",)),
        (Resource("r", key="id", load=Append()), Said(keys=("id",)), Append(), ("id",)),
        (Resource("r", key="id", load=Merge()), Said(disposition="replace"), Merge(), ("id",)),
        (Resource("r", load=Replace()), Said(keys=("id",), cursor="at", ranged=True), Replace(), ("id",)),
    ],
)
def test_what_a_declaration_leaves_out_the_resource_says(
    declared: Resource, said: Said, load: object, keys: tuple[str, ...]
) -> None:
    result = settled(declared, said, "crm.r")

    assert (result.load, result.keys) == (load, keys)


@pytest.mark.parametrize(
    ("declared", "said", "what", "move"),
    [
        (PLAIN, Said(moving_table=True), "sets table_name per record", "declare one resource per table"),
        (Resource("r", key="id"), Said(keys=("a", "id"), disposition="merge"), "primary key a, id", "correct key"),
        (Resource("r", load=Replace()), Said(cursor="at"), "deletes records that are not read", "load=Merge()"),
        (PLAIN, Said(disposition="replace", cursor="at"), "deletes records that are not read", "incremental"),
        (PLAIN, Said(), "every run would append all records again", "load=Replace()"),
        (PLAIN, Said(cursor="at", lagged=True), "append with a lag", "load=Merge()"),
        (PLAIN, Said(disposition="merge"), "no primary key", 'add key="…"'),
        (PLAIN, Said(keys=("id",), disposition="merge", strategy="scd2"), "merge by scd2", "snapshots"),
        (PLAIN, Said(disposition="skip"), "write disposition is skip", "load=Merge()"),
        (Resource("r", key="id", cursor="a", load=Merge()), Said(cursor="b"), "cursor is b", "omit it"),
    ],
)
def test_what_would_lose_or_double_records_is_refused_with_the_next_move(
    declared: Resource, said: Said, what: str, move: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        settled(declared, said, "crm.r")

    assert what in caught.value.what
    assert move in caught.value.fix


async def test_the_hints_are_read_from_a_real_resource() -> None:
    """Whoever raises the cap of dlt in pyproject.toml sees here whether hints are still where they were."""
    reader = reader_of(f"{SOURCES}:entries", Resource("entries"))
    async with reader.opened(None, None) as said:
        assert said == Said(disposition="append", undecided=True)
        assert await reader.begin() == Said(disposition="append", cursor="changed_at")
    async with reader_of(f"{SOURCES}:things", Resource("things")).opened(None, None) as said:
        assert said == Said(keys=("id",), disposition="merge", deleted="gone")


# -- records


def test_a_record_is_written_with_every_digit_and_without_marks_of_dlt() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=1))
    record = {
        "amount": Decimal("12.50"),
        "large": 2**70,
        "at": datetime.datetime(2026, 1, 31, 9, 0, 0, 1, zone),
        "local": datetime.datetime(2026, 1, 31, 9),
        "id": uuid.UUID(int=1),
        "blob": b"\xff",
        "ratio": float("nan"),
        "most": [float("inf"), Decimal("-Infinity")],
        "half": "\ud800",
    }

    assert record_encoder()(record) == (
        b'{"amount":12.50,"large":1180591620717411303424,"at":"2026-01-31T09:00:00.000001+01:00",'
        b'"local":"2026-01-31T09:00:00","id":"00000000-0000-0000-0000-000000000001","blob":"/w==","ratio":"NaN",'
        b'"most":["Infinity","-Infinity"],"half":"\\ud800"}'
    )
    assert record_encoder()("a word") == b'{"value":"a word"}'


def test_a_value_without_a_form_in_json_is_told_by_its_kind_alone() -> None:
    with pytest.raises(NotJson) as caught:
        record_encoder()({"secret": {"zqvalue"}})

    error = explain(caught.value, "crm.things")
    assert "set, which JSON cannot represent" in str(error)
    assert "zqvalue" not in str(error)


async def test_memory_does_not_follow_the_number_of_records() -> None:
    """100 MB of records, of which a megabyte is held at one time; the margin is the allocator's."""
    reader = reader_of(f"{SOURCES}:numbers", Resource("numbers"))
    read = received = 0
    async with reader.opened(None, None):
        await reader.begin()
        before = process.getrusage(process.RUSAGE_SELF).ru_maxrss
        async for batch in reader.batches():
            read += len(batch.records)
            received += batch.bytes
        grown = process.getrusage(process.RUSAGE_SELF).ru_maxrss - before

    assert read == 100_000
    assert received > 100_000_000
    assert grown < 25_000  # kilobytes


# -- refusals


@pytest.mark.parametrize(
    ("build", "resource", "kind", "what"),
    [
        ("no.such.module:f", PLAIN, ConfigurationError, "module no does not exist"),
        (f"{SOURCES}:nothing", PLAIN, ConfigurationError, "has no function nothing"),
        (f"{SOURCES}:how_many", PLAIN, SourceError, "raised KeyError in sources.py"),
        (f"{SOURCES}:at", PLAIN, SourceError, "raised TypeError"),
        ("builtins:dict", PLAIN, DeclarationError, "builtins:dict returned dict"),
        (f"{SOURCES}:entries", PLAIN, DeclarationError, "the source has no resource 'r'"),
    ],
)
async def test_a_source_that_cannot_be_built_says_why(
    build: str, resource: Resource, kind: type[MedallionError], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLT_TEST_RECORDS", raising=False)
    with pytest.raises(kind) as caught:
        async with reader_of(build, resource).opened(None, None):
            pass

    assert what in caught.value.what


async def test_without_the_extra_the_error_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"dlt is not installed; .*`uv sync --extra dlt`"):
        async with reader_of(f"{SOURCES}:entries", Resource("entries")).opened(None, None):
            pass


def test_nothing_imports_dlt_or_arrow_before_a_load_needs_them() -> None:
    """dlt takes a second to import, which every command line would pay."""
    code = (
        "import sys, flows.verbs.plan, flows.kinds.registry, flows.render, flows.sources; "
        "sys.exit(int(bool({'dlt', 'pyarrow'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_may_pass_is_tried_again_and_what_may_not_is_not() -> None:
    requests = importlib.import_module("requests")

    def answered(code: int) -> Any:
        response = requests.Response()
        response.status_code = code
        return requests.HTTPError("row of alice@example.com", response=response)

    kinds = {code: explain(answered(code), "crm.r") for code in (401, 404, 429, 503)}
    assert {code: type(error) for code, error in kinds.items()} == {
        401: ConfigurationError,
        404: SourceError,
        429: SourceUnavailable,
        503: SourceUnavailable,
    }
    assert all("alice" not in str(error) for error in kinds.values())
    assert explain(requests.exceptions.ConnectionError("to https://key@host"), "crm.r").retryable
    assert not explain(FileNotFoundError("/srv/drop"), "crm.r").retryable
