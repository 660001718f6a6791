"""Fields inferred from records, and what each contract makes of new ones."""

import json
from typing import Any, Literal

import pytest

from flows.kinds.api.fields import RecordFields


def records(*documents: Any) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


def test_the_first_pages_teach_fields_and_kinds() -> None:
    fields = RecordFields({}, "freeze", first=True)
    assert (
        fields.look(records({"id": 1, "tags": ["a"]}, {"id": 2.5, "who": {"x": 1}, "note": None, "is": True})) == set()
    )
    assert fields.known == {
        "id": frozenset({"number"}),
        "tags": frozenset({"list"}),
        "who": frozenset({"object"}),
        "note": frozenset(),
        "is": frozenset({"boolean"}),
    }
    assert (fields.changes, fields.refused, fields.is_new) == ([], [], True)


KNOWN = {"id": frozenset({"number"}), "name": frozenset({"text"}), "note": frozenset[str]()}


@pytest.mark.parametrize("contract", ["evolve", "freeze", "quarantine"])
def test_null_absence_and_a_first_value_are_no_change(contract: Literal["evolve", "freeze", "quarantine"]) -> None:
    fields = RecordFields(dict(KNOWN), contract)
    assert (
        fields.look(records({"id": 1}, {"id": None, "name": None, "note": None}, {"id": 2, "note": "first"})) == set()
    )
    assert (fields.changes, fields.refused) == ([], [])
    assert fields.known["note"] == {"text"}


def test_evolving_fields_are_taken_in_and_told_once() -> None:
    fields = RecordFields(dict(KNOWN))
    assert fields.look(records({"id": 1}, {"id": "x", "extra": [1]}, {"extra": [2], "id": "y"})) == set()
    assert fields.changes == [("id", "retyped", "number", "number or text"), ("extra", "added", None, "list")]
    fields.changes.clear()
    assert fields.look(records({"id": "z", "extra": []})) == set()
    assert fields.changes == []


def test_a_large_page_is_sampled_where_fields_evolve_and_looked_through_where_they_do_not() -> None:
    page = records(*({"id": n} for n in range(999)), {"id": 999, "extra": 1})
    evolving, strict = RecordFields(dict(KNOWN)), RecordFields(dict(KNOWN), "quarantine")
    assert (evolving.look(page), strict.look(page)) == (set(), {999})
    assert evolving.changes == []
    evolving.look(page[990:])
    assert evolving.changes == [("extra", "added", None, "number")]


def test_quarantine_names_the_records_and_keeps_what_is_known() -> None:
    fields = RecordFields(dict(KNOWN), "quarantine")
    for _ in range(2):
        assert fields.look(records({"id": 1}, {"id": 2, "extra": 1}, {"id": "3"}, {"id": 4, "name": "n"})) == {1, 2}
    assert fields.refused == [("extra", "added", None, "number"), ("id", "retyped", "number", "number or text")]
    assert fields.known == KNOWN


def test_what_is_no_object_is_left_to_the_doors_rules() -> None:
    fields = RecordFields(dict(KNOWN), "quarantine")
    assert fields.look([b"null", b"[1]", b'"x"', b'{"id": 1}']) == set()


def test_a_map_at_the_top_level_does_not_grow_without_end() -> None:
    fields = RecordFields({}, first=True)
    fields.look(records({f"k{n}": n for n in range(3000)}))
    assert len(fields.known) == 2000
