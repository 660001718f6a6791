"""Sheets of workbooks: what a person sees in a cell is what raw has."""

import io
import zipfile
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from flows.declare import Append
from flows.kinds.files import Excel, FileTable
from tests.kinds.files.loading import Drop

pytest.importorskip("python_calamine", reason="the extra `files` is not installed")

PRICES = FileTable(
    "lines", match="*.xlsx", load=Append(), format=Excel(), max_quarantined=0.9,
    columns={"sku": "text", "price": "numeric(10,2)", "since": "date"},
)  # fmt: skip

_SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)
_BOOK = (
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
    '<sheet name="Draft" sheetId="1" state="hidden" r:id="r1"/><sheet name="Prices" sheetId="2" r:id="r2"/>'
    "</sheets></workbook>"
)
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}'
    '<Relationship Id="r9" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" '
    'Target="styles.xml"/></Relationships>'
)
_RELATION = (
    '<Relationship Id="r{0}" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
    'Target="worksheets/sheet{0}.xml"/>'
)
_ROOT = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r0" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>'
)
_STYLES = (
    '<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs count="2">'
    '<xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>'
)


def cell(value: object) -> str:
    """A date has the format of one; a number is as it is written."""
    match value:
        case None:
            return "<c/>"
        case date():
            return f'<c s="1"><v>{(value - date(1899, 12, 30)).days}</v></c>'
        case int() | float():
            return f"<c><v>{value}</v></c>"
        case _:
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


def workbook(*rows: list[object]) -> bytes:
    """A workbook whose hidden first sheet has something else."""
    file = io.BytesIO()
    drawn = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr("_rels/.rels", _ROOT)
        parts.writestr("xl/workbook.xml", _BOOK)
        parts.writestr("xl/_rels/workbook.xml.rels", _RELATIONS.format(_RELATION.format(1) + _RELATION.format(2)))
        parts.writestr("xl/styles.xml", _STYLES)
        parts.writestr("xl/worksheets/sheet1.xml", _SHEET.format("<row><c><v>7</v></c></row>"))
        parts.writestr("xl/worksheets/sheet2.xml", _SHEET.format(drawn))
    return file.getvalue()


async def test_cells_are_as_a_person_sees_them(drop: Drop) -> None:
    table = replace(PRICES, format=Excel(skip=1))
    drop.put("a.xlsx", workbook(
        ["our prices"], [None, None], ["sku", "price", "since"], ["0012", 1.5, date(2026, 1, 31)], [13, 2, None],
        [None, None, None], ["x", "free", date(2026, 1, 1)], ["y", 1, None, "note"], [14, 3.0, "2026-02-01"],
    ))  # fmt: skip

    result = await drop.load(table)

    assert drop.raw("sku, price, since, _line") == [
        ("0012", Decimal("1.50"), date(2026, 1, 31), 4), ("13", Decimal("2.00"), None, 5),
        ("14", Decimal("3.00"), date(2026, 2, 1), 9),
    ]  # fmt: skip
    assert sorted((one["_line"], one["rule"]) for one in drop.quarantine()) == [
        (7, "value_fits_type"), (8, "row_has_all_columns")
    ]  # fmt: skip
    assert result.counts.reconciliation == "match"


async def test_a_sheet_that_is_not_there_a_header_of_merged_cells_and_what_is_no_workbook(drop: Drop) -> None:
    drop.put("a.xlsx", workbook(["sku", None, "since"], ["1", 2, None]))
    drop.put("b.xlsx", workbook(["sku", "price", "since"])[:-30])
    drop.put("c.xlsx", workbook(["sku", "price", "sku"]))

    said = str((await drop.load(PRICES)).warning)

    assert "a.xlsx: column 2 of its sheet has no header" in said
    assert "b.xlsx: it is no workbook" in said
    assert "c.xlsx: its header has sku twice" in said
    assert "it has no sheet 'Other'" in str((await drop.load(PRICES, format=Excel(sheet="Other"))).warning)
