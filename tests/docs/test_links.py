"""Documents lead where they say."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import DOCUMENTS, ROOT, anchors_of, links_of, name_of, prose_of, text_of

IMAGES = sorted(path for path in (ROOT / "docs/images").iterdir() if path.is_file())


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_and_image_exists(document: Path) -> None:
    broken = []
    for link in links_of(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_links_are_found_at_all() -> None:
    """A pattern that finds nothing would pass the test above."""
    assert "docs/images/flow.svg" in set(links_of(ROOT / "README.md"))
    assert "docs/ingest.md#cursor-windows" in set(links_of(ROOT / "README.md"))
    assert "cursor-windows" in anchors_of(ROOT / "docs/ingest.md")


@pytest.mark.parametrize("image", IMAGES, ids=name_of)
def test_every_image_is_small_and_shown_somewhere(image: Path) -> None:
    assert image.stat().st_size < 300_000
    assert any(f"images/{image.name})" in text_of(document) for document in DOCUMENTS)


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in seen:
            continue
        seen.add(document)
        for link in links_of(document):
            target = (document.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md":
                waiting.append(target)
    assert [name_of(document) for document in DOCUMENTS if document not in seen] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_document_names_a_folder_of_somebodys_machine(document: Path) -> None:
    assert re.findall(r"(?<![\w.:/])/(?:home|root|tmp|work|Users)/\S*", text_of(document)) == []


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = [line for line in text_of(ROOT / "README.md").splitlines() if line]
    assert lines[0].startswith("# ")
    assert [line.split("  ")[0] for line in lines[2:4]] == ["make demo", "make test"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_file_named_in_prose_exists(document: Path) -> None:
    """`flows/ingest.py` in backticks is a promise as a link is. Forms like `<name>.sql` are patterns, not files.

    Files that a guide's own blocks of code write are named by the first line of the block.
    """
    written = set(re.findall(r"^```python\n# ([\w./]+\.py)$", text_of(document), re.MULTILINE))
    named = re.findall(
        r"`((?:flows|blocks|deployments|infra|demo|soda|dbt_project|tests)/[\w./-]*)`", prose_of(document)
    )
    assert [path for path in named if path not in written and not (ROOT / path).exists()] == []
