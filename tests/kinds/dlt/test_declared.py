"""What the declaration of a dlt source refuses, takes, and leaves to the resource."""

from collections.abc import Callable

import pytest

from flows.declare import Append, Merge, Replace, Rule
from flows.kinds.dlt import DltSource, Resource
from flows.values.errors import DeclarationError

PLAIN = Resource("r")

REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    "a build that is no import path": (
        lambda: DltSource("d", build="crm", resources=[PLAIN]),
        "not an import path",
        "crm.",
    ),
    "a build with a call in it": (
        lambda: DltSource("d", build="a:f()", resources=[PLAIN]),
        "not an import path",
        "module",
    ),
    "a source without resources": (lambda: DltSource("d", build="a:f", resources=[]), "no resources", "at least one"),
    "two resources of one name": (
        lambda: DltSource("d", build="a:f", resources=[PLAIN, PLAIN]),
        "resource r is declared twice",
        "keep one",
    ),
    "a connection with a slash": (
        lambda: DltSource("d", build="a:f", resources=[PLAIN], connection="a/b"),
        "not a plain name",
        "underscores",
    ),
    "a name that is not plain": (lambda: Resource("Contacts"), "not a plain name", "lower-case"),
    "drift to quarantine": (
        lambda: Resource("r", on_drift="quarantine"),
        "for tables of a Database only",
        'on_drift="evolve"',
    ),
    "a count that is no import path": (lambda: Resource("r", count="len"), "not an import path", "module"),
    "an unknown type of key": (lambda: Resource("r", key="id", key_type="int"), "'int' is unknown", "bigint"),
    "an unknown type of cursor": (lambda: Resource("r", cursor="at", cursor_type="time"), "'time' is unknown", "date"),
    "more types than key columns": (
        lambda: Resource("r", key="id", key_type=("text", "text")),
        "1 key columns have 2 types",
        "one per column",
    ),
    "a key called payload": (lambda: Resource("r", key="payload"), "must not be named payload", "add_map"),
    "a key without a name": (lambda: Resource("r", key=("id", "")), "is empty", "as in the records"),
    "a replace with a cursor": (lambda: Resource("r", load=Replace(), cursor="at"), "never be used", "load=Merge()"),
    "deletes of an appended resource": (
        lambda: Resource("r", load=Append(), deleted="gone"),
        "append keeps all",
        "remove deleted",
    ),
    "a share above one": (lambda: Resource("r", max_quarantined=2), "between 0 and 1", "0.01"),
    "two rules of one name": (
        lambda: Resource("r", rules=(Rule("a", "true"), Rule("a", "true"))),
        "rule a is declared twice",
        "keep one rule",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_contradicts_itself_is_refused_with_the_next_move(case: str) -> None:
    declare, what, fix = REFUSED[case]
    with pytest.raises(DeclarationError) as refusal:
        declare()
    assert what in refusal.value.what
    assert fix in refusal.value.fix


def test_a_source_is_taken_without_dlt_and_frozen() -> None:
    resources = [Resource("contacts", key=("a", "b"), key_type=("text", "uuid"), load=Merge(), deleted="gone"), PLAIN]
    source = DltSource("crm", build="no.such.module:f", resources=resources)
    resources.clear()

    assert [resource.name for resource in source.tables] == ["contacts", "r"]
    assert source.table("contacts").types_of(("a", "b")) == ("text", "uuid")
    with pytest.raises(AttributeError):
        source.name = "other"  # type: ignore[misc]
    with pytest.raises(DeclarationError, match="use one of contacts, r"):
        source.table("x")
