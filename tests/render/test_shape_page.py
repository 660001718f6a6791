"""The page of all tables."""

from flows.declare.source import Source
from flows.render.shape_page import shape_page


def test_every_table_has_a_line_that_says_how_it_is_read(sources: tuple[Source, ...]) -> None:
    page = shape_page(sources)
    assert "| levels |  | site_id, product_id | merge | changed_at, lag 1 h | marked | level_not_negative | " in page
    assert "| moves | move | move_id | append | move_id | not detected |  | `raw_stock.moves` |" in page
    assert "| sites |  |  | replace |  | removed from raw |  | `raw_stock.sites` |" in page
    overwritten = "overwrite the last 3 months by counted_at |  | removed from raw, in overwritten partitions"
    assert f"| counts |  |  | {overwritten} |  | `raw_stock.counts` |" in page
    assert "| contacts |  | account, id | merge | changed | not detected |  | `raw_crm.contacts` |" in page
    assert "| orders |  | order_id | merge |  | marked by `gone` |  | `raw_crm.orders` |" in page
    unsaid = "as the resource says"
    assert f"| stages |  | {unsaid} | {unsaid} |  | {unsaid} |  | `raw_crm.stages` |" in page
    assert "| readings |  | id | merge | read_at | not detected |  | `raw_weather.readings` |" in page


def test_what_a_reader_needs_to_connect_and_to_wait_for_is_there(sources: tuple[Source, ...]) -> None:
    page = shape_page(sources)
    assert "`MEDALLION_SOURCE_ERP_URL`" in page
    assert "- dlt source `sources.crm:crm`, configured in dlt's own configuration" in page
    assert "`0 6 * * 1-5`" in page
    assert "none, loaded on demand" in page
    assert "a warning after 216 h" in page
    assert "more than 5.0% of the rows read" in page


def test_all_lines_of_a_table_have_as_many_cells(sources: tuple[Source, ...]) -> None:
    lines = [line.replace("\\|", "") for line in shape_page(sources).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {9}
