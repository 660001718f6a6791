"""The parts that need no server: vendored files, lineage, promises, people."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.dashboard import lineage, promises
from flows.dashboard.people import Person, is_password, password_hash
from flows.dashboard.views import HERE
from flows.declare import Deadline
from flows.models.manifest import Manifest
from tests.operations.ledger import manifest

VENDOR = HERE / "static/vendor"
HOUR = timedelta(hours=1)
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


def test_files_of_others_are_those_of_the_named_version_with_their_licence() -> None:
    """Whoever replaces one does so by its version, and not by an edit that nobody sees."""
    vendored = json.loads((VENDOR / "vendored.json").read_text())
    listed = {"vendored.json"}
    for package, facts in vendored.items():
        assert facts["npm_integrity"].startswith("sha512-"), package
        assert (VENDOR / facts["license_file"]).stat().st_size > 100
        listed.add(facts["license_file"])
        for name, file in facts["files"].items():
            assert facts["version"] in name
            assert file["hash"] == f"sha256-{hashlib.sha256((VENDOR / name).read_bytes()).hexdigest()}"
            listed.add(name)
    assert {path.name for path in VENDOR.iterdir()} == listed


def test_pages_use_the_vendored_files_and_nothing_of_other_hosts() -> None:
    text = "".join(path.read_text() for path in (HERE / "templates").glob("*.html"))
    for name in (path.name for path in VENDOR.glob("*.min.*")):
        assert f"/static/vendor/{name}" in text
    assert "//cdn" not in text
    assert 'src="http' not in text


def test_what_is_built_from_something_late_is_marked_and_reaches_its_column() -> None:
    drawing = lineage.draw(Manifest(manifest({"sales": {}, "stores": {}})), {"shop.baskets": "load late"})
    (raw,) = [node for node in drawing.nodes if node.layer == "raw"]
    gold = [node for node in drawing.nodes if node.layer == "gold"]
    assert (raw.late, raw.is_behind) == ("load late", False)
    assert [(node.late, node.is_behind) for node in gold] == [("", True)] * 2
    assert {node.x > raw.x for node in gold} == {True}
    assert drawing.parents["gold.sales"] == ["shop.baskets"]
    assert all(late for _, late in drawing.edges)


def test_a_lineage_of_thousands_draws_what_is_late_and_what_is_related_to_it() -> None:
    many: dict[str, dict[str, str]] = {f"model_{n}": {} for n in range(2_000)}
    for late, focus in (({"gold.model_7": "late"}, ""), ({}, "gold.model_7")):
        drawing = lineage.draw(Manifest(manifest(many)), late, focus)
        assert {node.name for node in drawing.nodes} == {"gold.model_7", "shop.baskets"}
        assert drawing.left_out == 1_999
    assert len(lineage.draw(Manifest(manifest(many)), {"shop.baskets": "late"}).nodes) == lineage.MOST
    assert lineage.draw(Manifest(manifest(many)), {}, "gold.nothing").nodes == []


def test_the_longest_time_without_a_load_goes_on_over_midnight() -> None:
    ends = [NOON - 30 * HOUR, NOON - 29 * HOUR]
    gaps = promises.longest_gaps(ends, NOON - 48 * HOUR, NOON)
    assert gaps == {NOON.date() - timedelta(days=1): 17 * 3600, NOON.date(): 29 * 3600}
    assert promises.longest_gaps([], NOON - HOUR, NOON) == {}


def test_a_deadline_is_met_by_a_load_within_its_window_and_by_no_other() -> None:
    deadline = Deadline("0 7 * * *", within="2 h")
    seven = NOON.replace(hour=7)
    ends = [seven - 24 * HOUR - 3 * HOUR, seven - HOUR]
    assert promises.deadlines(deadline, ends, NOON - 48 * HOUR, NOON) == [
        promises.Due(seven, seven - HOUR), promises.Due(seven - 24 * HOUR, None)
    ]  # fmt: skip


def test_a_password_is_kept_as_what_it_cannot_be_told_from() -> None:
    kept = password_hash("secret")
    assert is_password("secret", kept)
    assert not is_password("Secret", kept)
    assert kept != password_hash("secret"), "each has its salt"
    assert not set(kept) & set("$:+ \"'"), "it stands in a variable, with others"


def test_an_operator_is_a_viewer_and_nobody_is_more_than_they_are() -> None:
    assert Person("o", frozenset({"operator"})).may("viewer")
    assert not Person("v", frozenset({"viewer"})).may("operator")
    assert not Person("a", frozenset({"analyst"})).may("viewer")
    assert not Person("a", frozenset({"analyst"})).may("personal")


def test_the_page_reads_times_and_numbers_from_what_is_written_in_it() -> None:
    script = Path(HERE / "static/dashboard.js").read_text()
    for word in ("eval(", "innerHTML", "new Function", "document.write", "outerHTML"):
        assert word not in script
