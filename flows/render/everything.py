"""All rendered files: their expected text, drift, and writing them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from flows.declare.source import Source
from flows.models.promises import refuse_unreadable_promises
from flows.render.dbt_sources import dbt_sources
from flows.render.gold_contracts import gold_contracts
from flows.render.ingest_deployments import with_ingest_deployments
from flows.render.raw_contracts import raw_contract
from flows.render.shape_page import shape_page
from flows.sources import SOURCES
from flows.sources.calendars import CALENDARS
from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT

# Folders that belong to the renderer: files without a declaration are leftovers and are deleted.
_OWN_FOLDERS = ("soda/raw", "soda/gold")
_OWN_PATTERN = "dbt_project/models/staging/*/_sources.yml"


def render_all(sources: Sequence[Source] = SOURCES, root: Path = PROJECT_ROOT) -> dict[Path, str]:
    """Every rendered file with its expected text. Reads prefect.yaml, dbt's properties files and soda/gold_checks;
    writes nothing.

    Raises:
        ConfigurationError: prefect.yaml is missing, or has no markers for the rendered part.
        DeclarationError: soda/gold_checks does not fit the properties files; or `meta` of a model cannot be read.
    """
    files: dict[Path, str] = {}
    for source in sources:
        files[root / "dbt_project/models/staging" / source.name / "_sources.yml"] = dbt_sources(source)
        for table in source.tables:
            files[root / "soda/raw" / source.name / f"{table.name}.yml"] = raw_contract(source, table)
    prefect_yaml = root / "prefect.yaml"
    try:
        present = prefect_yaml.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            "prefect.yaml does not exist", where=str(root), fix="run this in the project's folder"
        ) from None
    files[prefect_yaml] = with_ingest_deployments(present, sources)
    files[root / "docs/shape.md"] = shape_page(sources)
    refuse_unreadable_promises(root / "dbt_project/models", CALENDARS)
    return files | gold_contracts(root)


def check(sources: Sequence[Source] = SOURCES, root: Path = PROJECT_ROOT) -> list[Path]:
    """The files that differ from the declarations, including missing and leftover ones, sorted."""
    wanted = render_all(sources, root)
    drifted = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    return sorted([*drifted, *_leftovers(wanted, root)])


def write(sources: Sequence[Source] = SOURCES, root: Path = PROJECT_ROOT) -> dict[Path, Literal["written", "deleted"]]:
    """Bring every rendered file up to date; returns the action per changed file, sorted.
    Idempotent."""
    wanted = render_all(sources, root)
    done: dict[Path, Literal["written", "deleted"]] = {}
    for path in check(sources, root):
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
            done[path] = "written"
        else:
            path.unlink()
            done[path] = "deleted"
    return done


def _leftovers(wanted: dict[Path, str], root: Path) -> list[Path]:
    present = [path for folder in _OWN_FOLDERS for path in (root / folder).rglob("*.yml")]
    return [path for path in [*present, *root.glob(_OWN_PATTERN)] if path not in wanted]
