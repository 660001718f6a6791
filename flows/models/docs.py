"""Documentation: dbt's docs as one static page, and the lineage of every column as another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from flows.access import addresses
from flows.models.lineage_page import lineage_page
from flows.models.manifest import Manifest
from flows.models.project import DBT_PROJECT, run_dbt
from flows.values.errors import WarehouseError
from flows.values.settings import settings


def write_docs(folder: Path, project: Path = DBT_PROJECT) -> list[Path]:
    """Write `index.html` (dbt's docs) and `lineage.html` into the folder, as self-contained pages.

    Nothing is built, so the reviewer role is sufficient.

    Raises:
        WarehouseError: dbt cannot compile the project, or read the warehouse's catalog.
    """
    target = settings().home / "dbt" / "docs"
    made = run_dbt(["docs", "generate", "--static"], url=addresses.reviewer().url, target=target, project=project)
    page = target / "static_index.html"
    if made.problem or not page.exists():
        raise WarehouseError(
            made.problem or "dbt wrote no page",
            where="dbt docs generate",
            fix="fix what it names; `medallion model check` shows more without a database",
        )
    manifest = Manifest.read((target / "manifest.json").read_bytes())
    catalog = json.loads((target / "catalog.json").read_text(encoding="utf-8"))
    types = {
        (unique_id, name): column["type"]
        for unique_id, entry in {**catalog["nodes"], **catalog["sources"]}.items()
        for name, column in entry["columns"].items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    index, lineage = folder / "index.html", folder / "lineage.html"
    shutil.copyfile(page, index)
    lineage.write_text(lineage_page(manifest, types), encoding="utf-8")
    return [index, lineage]
