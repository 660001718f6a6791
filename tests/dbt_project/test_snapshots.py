"""Snapshots of relations that go wrong: a small project with the macros and the hook of ours, and one snapshot."""

from pathlib import Path

import psycopg
import pytest
import yaml

from tests.conftest import TestDatabase
from tests.dbt_project.built_warehouse import PROJECT, Build, Rows, Warehouse

pytestmark = pytest.mark.xdist_group("dbt")

SNAPSHOT = """
snapshots:
  - name: shelves_snapshot
    relation: source('shop', 'shelves')
    config:
      unique_key: shelf_id
      strategy: check
      check_cols: [{columns}]
      hard_deletes: new_record
      dbt_valid_to_current: "timestamp with time zone '9999-12-31 00:00:00+00'"
"""
SOURCE = "sources: [{name: shop, schema: raw_shop, tables: [{name: shelves}]}]"


class Snapshots:
    """The small project, and what its snapshot holds."""

    def __init__(self, database: TestDatabase, folder: Path, *, with_hook: bool = True) -> None:
        self._folder = folder
        settings = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
        kept = {
            name: settings[name] for name in ("name", "version", "profile", "vars", "snapshots") if name in settings
        }
        hooks = kept["snapshots"]["medallion"]
        # Receipts need tables that on-run-start makes: tests/dbt_project/test_receipts.py.
        del hooks["+post_hook"]
        hooks["+pre_hook"] = "{{ prepare_snapshot() }}"
        if not with_hook:
            del hooks["+pre_hook"]
        (folder / "dbt_project.yml").write_text(yaml.safe_dump(kept | {"macro-paths": ["macros"]}))
        (folder / "macros").symlink_to(PROJECT / "macros")
        (folder / "profiles.yml").write_text((PROJECT / "profiles.yml").read_text())
        for name in ("snapshots", "models"):
            (folder / name).mkdir()
        (folder / "models" / "sources.yml").write_text(SOURCE)
        self.warehouse = Warehouse(database, folder / "target", folder)
        self.change("create table raw_shop.shelves (shelf_id bigint, width smallint, name text)")
        self.change("insert into raw_shop.shelves values (1, 80, 'fruit'), (2, 120, 'bread')")

    def change(self, statement: str) -> None:
        """Change the relation as a load does."""
        with psycopg.connect(self.warehouse.database.url("loader")) as connection:
            connection.execute("create schema if not exists raw_shop")
            connection.execute(statement.encode())

    def take(self, columns: str = "width, name") -> Build:
        """Take a snapshot that compares these columns."""
        (self._folder / "snapshots" / "shelves.yml").write_text(SNAPSHOT.format(columns=columns))
        return self.warehouse.dbt("snapshot")

    def versions(self, column: str = "width") -> Rows:
        return self.warehouse.rows(
            f"select shelf_id, {column}::text as value, dbt_is_deleted from snapshots.shelves_snapshot "
            "order by shelf_id, dbt_valid_from, dbt_valid_to"
        )


@pytest.fixture
def snapshots(warehouse: TestDatabase, tmp_path: Path) -> Snapshots:
    taken = Snapshots(warehouse, tmp_path)
    built = taken.take()
    assert built.exit_code == 0, built.output
    return taken


def test_a_row_without_its_key_is_refused_and_nothing_is_written(snapshots: Snapshots) -> None:
    before = snapshots.versions()
    snapshots.change("insert into raw_shop.shelves values (null, 40, 'x'), (2, 121, 'y')")
    refused = snapshots.take()
    assert refused.exit_code == 1
    assert "1 rows have no shelf_id, and 1 repeat one" in refused.output
    assert snapshots.versions() == before


def test_without_the_hook_a_row_without_its_key_adds_versions_for_ever(warehouse: TestDatabase, tmp_path: Path) -> None:
    """The fault that the hook is there for; if dbt ends it, the hook may go."""
    taken = Snapshots(warehouse, tmp_path, with_hook=False)
    taken.change("insert into raw_shop.shelves values (null, 40, 'x')")
    counts = []
    for _ in range(3):
        assert taken.take().exit_code == 0
        counts.append(len(taken.versions()))
    assert counts[0] < counts[1] < counts[2]


def test_a_column_that_was_retyped_without_loss_is_retyped_in_the_history(snapshots: Snapshots) -> None:
    snapshots.change("alter table raw_shop.shelves alter column width type text")
    snapshots.change("update raw_shop.shelves set width = '81 cm' where shelf_id = 1")
    taken = snapshots.take()
    assert taken.exit_code == 0, taken.output
    assert [(row["shelf_id"], row["value"]) for row in snapshots.versions()] == [(1, "80"), (1, "81 cm"), (2, "120")]


def test_a_type_that_does_not_fit_the_history_is_refused(snapshots: Snapshots) -> None:
    before = snapshots.versions("name")
    snapshots.change("alter table raw_shop.shelves alter column name type integer using 5")
    refused = snapshots.take()
    assert refused.exit_code == 1
    assert "name was text and is integer, which 2 values of the history do not fit" in refused.output
    assert snapshots.versions("name") == before


def test_a_type_that_would_round_the_history_is_refused(snapshots: Snapshots) -> None:
    snapshots.change("alter table raw_shop.shelves alter column width type numeric(6, 2) using width + 0.25")
    assert snapshots.take().exit_code == 0
    snapshots.change("alter table raw_shop.shelves alter column width type numeric(6, 0)")
    assert "2 values of the history do not fit" in snapshots.take().output


def test_a_new_column_to_compare_is_no_change_of_every_row(snapshots: Snapshots) -> None:
    """Deleted rows keep null, and the next change of the column is a version."""
    snapshots.change("delete from raw_shop.shelves where shelf_id = 2")
    assert snapshots.take().exit_code == 0
    snapshots.change("alter table raw_shop.shelves add column colour text default 'white'")
    taken = snapshots.take("width, name, colour")
    assert taken.exit_code == 0, taken.output
    assert [(row["shelf_id"], row["value"], row["dbt_is_deleted"]) for row in snapshots.versions("colour")] == [
        (1, "white", "False"),
        (2, None, "False"),
        (2, None, "True"),
    ]
    snapshots.change("update raw_shop.shelves set colour = 'red'")
    assert snapshots.take("width, name, colour").exit_code == 0
    assert [row["value"] for row in snapshots.versions("colour") if row["shelf_id"] == 1] == ["white", "red"]
