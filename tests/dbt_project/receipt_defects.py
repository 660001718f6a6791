"""What can be wrong with what a table of gold rests on, each seeded by SQL into a clean warehouse."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """`seed` runs as the loader; the receipt of `table` then says `finding` of `about`, and something of the others."""

    name: str
    seed: str
    finding: str
    about: str = "shop.baskets"
    level: str = "problem"
    table: str = "fct_basket_lines"
    also_about: frozenset[str] = frozenset()


def load(**values: object) -> str:
    """A load of shop.baskets that took nothing, with other values."""
    row: dict[str, object] = {
        "source_system": "shop", "table_name": "baskets", "strategy": "replace", "status": "published", "rows_read": 0,
        "rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 0, "rows_deduplicated": 0, "rows_quarantined": 0,
        "rows_deleted": 0, "source_rows": 100, "raw_rows": 100, "quarantine_rows": 0, "reconciliation": "match",
        "finished_at": "2026-05-04 08:00+00",
    } | values  # fmt: skip
    literals = ["null" if value is None else f"'{value}'" for value in row.values()]
    return f"insert into ops.loads ({', '.join(row)}) values ({', '.join(literals)})"


def reconciled(result: str, **counts: int) -> str:
    """A comparison by `medallion reconcile`, with differences."""
    found = {"missing": 0, "extra": 0, "different": 0} | counts
    return (
        "insert into ops.reconciliations (source_system, table_name, method, result, buckets, drilled, missing, extra, "
        "different, quarantined, pending, repaired, seconds, keys) values ('shop', 'baskets', 'content', "
        f"'{result}', 1, 1, {found['missing']}, {found['extra']}, {found['different']}, 0, 0, 0, 0.1, '{{}}')"
    )


def gate(name: str, dataset: str, check: str, outcome: str) -> str:
    """A transform whose gate had this result."""
    return (
        "with run as (insert into ops.runs (pipeline, status) values ('transform', 'done') returning run_id) "
        "insert into ops.check_results (run_id, gate, dataset, check_name, outcome) "
        f"select run_id, '{name}', '{dataset}', '{check}', '{outcome}' from run"
    )


def tested(status: str) -> str:
    """A result of a test of the table, as a build leaves it."""
    return (
        f"update gold.receipt_tests set status = '{status}', tested_at = clock_timestamp() "
        "where name = 'fct_basket_lines_references_hold'"
    )


QUARANTINED = """
insert into quarantine.rows (batch_id, source_system, table_name, rule, row_data, row_hash)
select 1, 'shop', 'baskets', 'store_is_known', '{}', n::text from generate_series(1, 25) as n
"""
DEFECTS = (
    Defect("missing at the load", load(reconciliation="missing", missing_rows=3), "3 rows of the source were missing"),
    Defect("missing, only counted", load(reconciliation="missing", raw_rows=96), "4 rows of the source were missing"),
    Defect("extra at the load", load(reconciliation="extra", extra_rows=2), "2 rows were not at the source"),
    Defect("duplicate at the load", load(reconciliation="duplicate", duplicate_rows=1), "had duplicate keys"),
    Defect("missing by reconcile", reconciled("different", missing=7), "UTC: rows missing 7"),
    Defect("different by reconcile", reconciled("different", different=5), "UTC: rows different 5"),
    Defect("never compared", load(reconciliation="not_compared"), "not compared with the source", level="note"),
    Defect("could not compare", reconciled("not_compared"), "could not be compared", level="note"),
    Defect("stopped at a budget", load(reconciliation="incomplete"), "did not read to the end", level="note"),
    Defect("load stopped", load(status="stopped"), "the last load is not finished (stopped)", level="note"),
    Defect("load failed", load(status="failed"), "the last load failed: rows are as of the load before"),
    Defect("load refused", load(status="refused"), "the last load was refused: rows are as of the load before"),
    Defect("stale", "update ops.loads set finished_at = now() - interval '37 hours' where table_name = 'baskets'",
           "stale: last loaded on"),
    Defect("quarantined on load", QUARANTINED, "25 rows are quarantined, 20.00 %", level="note"),
    Defect("source does not answer",
           "insert into ops.circuits (source_system, state) values ('shop', 'open')",
           "the source does not answer: circuit open",
           also_about=frozenset({"shop.basket_items", "shop.households", "shop.products", "shop.stores"})),
    Defect("a person has to decide",
           "insert into ops.decisions (kind, subject, source_system, table_name, what, plan, plan_digest, two_persons, "
           "requested_by, lasts, expires_at) values ('deletes', 'shop.baskets', 'shop', 'baskets', '9 rows', '{}', "
           "'x', false, 'somebody', '1 day', now() + interval '1 day')",
           "a load waits for a person to decide", level="note"),
    Defect("column held back",
           "insert into ops.schema_changes (batch_id, source_system, table_name, column_name, change, applied) "
           "values (1, 'shop', 'baskets', 'loyalty', 'added', false)",
           "changes at the source were not applied: loyalty", level="note"),
    Defect("check of raw warns", gate("raw", "raw_shop.baskets", "row_count", "warned"), "row_count warned"),
    Defect("check of gold fails", gate("gold", "gold.fct_basket_lines", "invalid", "failed"), "invalid failed",
           about="fct_basket_lines"),
    Defect("unusual volume",
           "insert into ops.anomalies (source_system, table_name, day, measure, state, value, usual, lowest, highest, "
           "known, again) values ('shop', 'baskets', current_date, 'volume', 'low', 1, 9, 8, 10, 10, false)",
           "is unusual: volume", level="note"),
    Defect("never loaded", "delete from ops.loads where table_name = 'baskets'", "was never loaded", level="note"),
    Defect("quarantined by silver",
           "update gold.receipts set quarantined_by = '{\"quarantine_basket_line\": 4}'",
           "4 rows are quarantined by rules of silver", about="quarantine_basket_line", level="note"),
    Defect("newer rows", load(rows_read=4, rows_inserted=4), "rows loaded since are not in the table", level="note"),
    Defect("test failed", tested("failed"), "the test failed", about="fct_basket_lines_references_hold"),
    Defect("test warns", tested("warned"), "the test warns", about="fct_basket_lines_references_hold"),
    Defect("test skipped", tested("skipped"), "the test was skipped", about="fct_basket_lines_references_hold",
           level="note"),
    Defect("test not run",
           "update gold.receipt_nodes set published_at = clock_timestamp() where node_id like '%.fct_basket_lines'",
           "the test has not run since the build", about="fct_basket_lines_references_hold", level="note",
           also_about=frozenset({"totals_agree_to_the_cent"})),
    Defect("a table that silver rests on is loaded again",
           load(table_name="stores", rows_read=1, rows_updated=1), "rows loaded since are not in the table",
           about="shop.stores", level="note"),
)  # fmt: skip
#: What is said of the clean warehouse itself: tests call dbt without a run, and the last day is never over.
OF_THE_TEST = (
    Defect("outside of a run", "select 1", "was built outside of a run", about="fct_basket_lines", level="note"),
    Defect("incomplete days", "select 1", "days after 2017-12-28 are not complete; the newest is 2017-12-29",
           about="fct_basket_lines", level="note"),
)  # fmt: skip
