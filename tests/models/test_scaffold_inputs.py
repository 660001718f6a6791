"""Files of new staging models, snapshots and seeds, as they are written."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from flows.models.manifest import Manifest, Relation
from flows.models.scaffold_inputs import seed, snapshot, staging
from flows.values.errors import DeclarationError

PROJECT = Path("project")
RAW = {
    "return_id": "bigint", "order": "text", "email": "text", "_extracted_at": "timestamp with time zone",
    "_source_system": "text", "_batch_id": "bigint", "_deleted_at": "timestamp with time zone",
}  # fmt: skip


def relation(kind: str, name: str, columns: Mapping[str, Mapping[str, object]], description: str = "") -> Relation:
    node = {
        "unique_id": f"{kind}.medallion.{name}", "resource_type": kind, "name": name, "schema": "raw_shop",
        "description": description, "columns": columns, "config": {},
    }  # fmt: skip
    sources = {"s": node} if kind == "source" else {}
    nodes = {} if kind == "source" else {"n": node}
    (found,) = Manifest({"nodes": nodes, "sources": sources}).relations.values()
    return found


def properties(files: Mapping[Path, str]) -> dict[str, object]:
    (text,) = [text for path, text in files.items() if path.suffix == ".yml"]
    found: dict[str, object] = yaml.safe_load(text)
    return found


def test_staging_has_the_columns_of_raw_and_the_descriptions_and_tags_of_the_source() -> None:
    columns: Mapping[str, Mapping[str, object]] = {
        "return_id": {"description": "Its number."}, "email": {"tags": ["personal"]},
    }  # fmt: skip
    declared = relation("source", "returns", columns, "One row per returned item.")
    files = staging("stg_shop__returns", "shop.returns", RAW, {}, declared, project=PROJECT)
    sql = files[PROJECT / "models/staging/shop/stg_shop__returns.sql"]
    assert "{{ source('shop', 'returns') }}" in sql
    assert "where _deleted_at is null" in sql
    assert [line.strip(" ,") for line in sql.splitlines() if line.startswith("        ")] == [
        "return_id", '"order"', "email", "_extracted_at", "_batch_id",
    ]  # fmt: skip
    assert properties(files) == {
        "models": [
            {
                "name": "stg_shop__returns",
                "description": "One row per returned item.",
                "columns": [
                    {"name": "return_id", "description": "Its number."},
                    {"name": "order", "description": "As in shop.returns."},
                    {"name": "email", "description": "As in shop.returns.", "config": {"tags": ["personal"]}},
                    {"name": "_extracted_at", "description": '{{ doc("extracted_at") }}'},
                    {"name": "_batch_id", "description": '{{ doc("batch_id") }}'},
                ],
            }
        ]
    }


def test_fields_of_records_become_columns_and_what_has_more_in_it_stays_json() -> None:
    types = {"id": "bigint", "payload": "jsonb", "_extracted_at": "timestamp with time zone", "_batch_id": "bigint"}
    fields = {"id": ["number"], "theName": ["string"], "lines": ["array"], "it's": ["string"]}
    files = staging("stg_api__orders", "api.orders", types, fields, None, project=PROJECT)
    sql = files[PROJECT / "models/staging/api/stg_api__orders.sql"]
    selected = [line.strip(" ,") for line in sql.splitlines() if line.startswith("        ")]
    assert selected == [
        "id", "payload ->> 'theName' as thename", "payload -> 'lines' as lines", "payload ->> 'it''s' as it_s",
        "_extracted_at", "_batch_id",
    ]  # fmt: skip


def test_a_staging_model_under_another_name_or_of_nothing_is_refused() -> None:
    with pytest.raises(DeclarationError, match="here stg_shop__returns"):
        staging("returns", "shop.returns", RAW, {}, None, project=PROJECT)
    with pytest.raises(DeclarationError, match="raw_shop has no table returns"):
        staging("stg_shop__returns", "shop.returns", {}, {}, None, project=PROJECT)


def test_a_snapshot_checks_what_may_change_and_needs_a_key() -> None:
    origin = relation("model", "stg_shop__returns", {})
    types = {"return_id": "bigint", "reason": "text", "updated_at": "timestamptz", "_batch_id": "bigint"}
    files = snapshot("returns_snapshot", origin, types, ["return_id"], project=PROJECT)
    (one,) = yaml.safe_load(files[PROJECT / "snapshots/returns_snapshot.yml"])["snapshots"]
    assert (one["relation"], one["config"]["unique_key"]) == ("ref('stg_shop__returns')", "return_id")
    assert one["config"]["check_cols"] == ["reason"]
    for name, by, match in (
        ("returns", ["return_id"], "call it returns_snapshot"),
        ("returns_snapshot", [], "pass --by"),
        ("returns_snapshot", ["shoe_size"], "pass --by"),
        ("returns_snapshot", ["return_id", "reason"], "something that changes"),
    ):
        with pytest.raises(DeclarationError) as refused:
            snapshot(name, origin, types, by, project=PROJECT)
        assert match in refused.value.fix


def test_a_seed_is_a_copy_with_the_types_that_all_values_have(tmp_path: Path) -> None:
    file = tmp_path / "reasons.csv"
    file.write_text("code,label,weight,since,share,large\n01,broken,3,2026-01-02,0.5,3000000000\n02,wrong,,,1,4\n")
    files = seed("return_reasons", file, ["code"], project=PROJECT)
    assert files[PROJECT / "seeds/return_reasons.csv"] == file.read_text()
    (one,) = yaml.safe_load(files[PROJECT / "seeds/return_reasons.yml"])["seeds"]
    assert one["config"]["column_types"] == {
        "code": "text", "label": "text", "weight": "integer", "since": "date", "share": "numeric", "large": "bigint",
    }  # fmt: skip
    assert one["config"]["indexes"] == [{"columns": ["code"], "unique": True}]


@pytest.mark.parametrize(
    ("text", "by", "what"),
    [
        ("code,label\n1,a\n1,b\n", ["code"], "code is empty or repeats"),
        ("code,label\n,a\n", ["code"], "code is empty or repeats"),
        ("code,The Label\n1,a\n", ["code"], "The Label are not plain"),
        ("code,label\n1\n", ["code"], "columns of the header"),
        ("code,label\n1,a\n", [], "a seed needs a key"),
        ("", ["code"], "no CSV file"),
    ],
)
def test_a_file_that_is_no_seed_is_refused_with_the_reason(tmp_path: Path, text: str, by: list[str], what: str) -> None:
    file = tmp_path / "seed.csv"
    file.write_text(text)
    with pytest.raises(DeclarationError, match=what):
        seed("reasons", file, by, project=PROJECT)
