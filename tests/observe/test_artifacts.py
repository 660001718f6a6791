"""The tables of a run, as Markdown."""

from flows.observe.artifacts import (
    CheckLine,
    LoadLine,
    NodeLine,
    checks_table_markdown,
    links_markdown,
    loads_table_markdown,
    nodes_table_markdown,
)


def test_a_failed_load_stands_above_the_good_ones_and_totals_stand_last() -> None:
    page = loads_table_markdown(
        [
            LoadLine("shop", "baskets", "merge", "published", rows_read=1000, rows_inserted=990, rows_quarantined=10),
            LoadLine("shop", "stores", "replace", "failed", note="source does not answer"),
        ]
    )
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == ["| shop.stores", "| shop.baskets", "| 2 tables"]
    assert "| 1,000 | 990 |" in rows[-1]


def test_a_load_whose_ends_differ_stands_above_those_that_match_with_the_result_before_the_counts() -> None:
    page = loads_table_markdown(
        [
            LoadLine("shop", "baskets", "merge", "published", reconciliation="match"),
            LoadLine("shop", "stores", "replace", "published", reconciliation="missing"),
        ]
    )
    head, _, first, second, _ = [line.split(" | ")[:4] for line in page.splitlines() if line.startswith("| ")]
    assert head == ["| table", "strategy", "status", "result"]
    assert [first[0], first[3]] == ["| shop.stores", "missing"]
    assert second[3] == "match"


def test_a_pipe_or_a_line_break_in_a_cell_does_not_break_the_table() -> None:
    page = loads_table_markdown([LoadLine("shop", "a", "merge", "failed", note="x|y\nz")])
    assert "x\\|y z" in page
    assert len({line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("|")}) == 1


def test_nothing_loaded_says_so() -> None:
    assert "Nothing was loaded" in loads_table_markdown([])


def test_a_gate_names_its_tables_those_that_failed_first() -> None:
    outcomes = [("gold.a", "passed"), ("gold.b", "warned"), ("gold.c", "error"), ("gold.c", "passed")]
    page = checks_table_markdown([CheckLine(name, "rows", None, outcome) for name, outcome in outcomes], gate="gold")
    assert page.rpartition("## Tables\n\n")[2].splitlines()[2:] == [
        "| gold.c | failed | 2 | 1 | 0 |",
        "| gold.b | warned | 1 | 0 | 1 |",
        "| gold.a | passed | 1 | 0 | 0 |",
    ]
    assert "| gold.a | passed" in checks_table_markdown([CheckLine("gold.a", "rows", None, "passed")], gate="gold")


def test_a_gate_lists_what_did_not_pass_and_counts_the_rest() -> None:
    page = checks_table_markdown(
        [
            CheckLine("raw_shop.a", "missing", "id", "passed"),
            CheckLine("raw_shop.a", "freshness", None, "warned"),
            CheckLine("raw_shop.b", "row_count", None, "not_evaluated"),
        ],
        gate="raw",
    )
    assert page.startswith("# Gate raw: failed")
    assert "3 checks on 2 tables, 1 passed, 1 warned, 1 blocking" in page
    assert page.index("not_evaluated") < page.index("warned |")
    assert "missing" not in page
    assert checks_table_markdown([CheckLine("a.b", "missing", "id", "warned")], gate="raw").startswith(
        "# Gate raw: passed"
    )


def test_a_build_shows_what_went_wrong_before_what_was_slow() -> None:
    page = nodes_table_markdown(
        [
            NodeLine("dim_date", "model", "success", 2.0, rows=365),
            NodeLine("keys_hold", "test", "fail", 0.1, message="3"),
        ]
    )
    assert "2 nodes, 1 failed" in page
    assert page.index("keys_hold") < page.index("dim_date")


def test_a_link_with_credentials_is_not_shown() -> None:
    assert (
        links_markdown({"ui": "http://127.0.0.1:4200", "db": "postgresql://u:p@h/d"})
        == "- [ui](http://127.0.0.1:4200)\n"
    )
