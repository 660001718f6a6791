"""The edit of a declaration is shown as a diff of its file, and would be valid Python."""

from pathlib import Path

import pytest

from flows.operations.tuning.edits import source_edit, table_edit

ONE_LINE = """from flows.declare import Replace
from flows.kinds.postgres import Database, Table

erp = Database("erp", connection="erp", tables=[Table("größe", key="id", load=Replace(), description="ö"), Table("b")])
"""
LINES = """from flows.declare import Append, Replace

erp = Database(
    "erp",
    connection="erp",
    schedule="5 * * * *",
    tables=[
        Table(
            "größe",
            key="id",
            load=Replace(min_share=0.2),
        ),
    ],
)
"""


@pytest.mark.parametrize("text", [ONE_LINE, LINES], ids=["in one line", "in lines"])
def test_arguments_are_replaced_and_added_with_their_imports(tmp_path: Path, text: str) -> None:
    (tmp_path / "erp.py").write_text(text, encoding="utf-8")
    shown = table_edit("erp", "größe", {"cursor": 'Timestamp("at")', "load": "Merge()"}, tmp_path)
    added = [line[1:] for line in shown.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert ", Merge, Replace, Timestamp" in f", {added[0].partition('import ')[2]}"
    assert 'cursor=Timestamp("at")' in "".join(added)
    assert "load=Merge()" in "".join(added)
    assert "Replace(min_share" not in "".join(added)
    assert (tmp_path / "erp.py").read_text(encoding="utf-8") == text, "nothing is written"


def test_of_a_source_the_argument_stands_before_its_schedule(tmp_path: Path) -> None:
    (tmp_path / "erp.py").write_text(LINES, encoding="utf-8")
    shown = source_edit("erp", {"max_parallel": "8"}, tmp_path)
    assert '+    max_parallel=8,\n     schedule="5 * * * *",' in shown


def test_of_a_table_that_no_file_names_the_arguments_are_shown(tmp_path: Path) -> None:
    assert table_edit("erp", "other", {"load": "Merge()"}, tmp_path) == "# declaration of erp.other\nload=Merge()"
