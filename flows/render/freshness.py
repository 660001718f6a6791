"""The query for the age of a table's last load, for dbt and Soda. Its limits: flows/declare/promises.py.

Freshness is measured on `ops.loads`, not on the rows: an unchanged table keeps its old `_extracted_at` although it was
loaded. A load without changes is a load.
"""

from flows.state.freshness import COMPLETE, PARTIAL
from flows.values.identifiers import quote_literal

_PARTIAL = ", ".join(quote_literal(strategy) for strategy in PARTIAL)
_UNLIMITED = ", ".join(quote_literal(strategy) for strategy in PARTIAL if strategy != "limited")


def last_load(source: str, table: str, expression: str = "max(finished_at)") -> str:
    """The query for the last published load of a table, on one line."""
    published = (
        f"from ops.loads where source_system = {quote_literal(source)} and table_name = {quote_literal(table)} "
        f"and status = 'published' and {COMPLETE}"
    )
    return (
        # Repairs and replays reload single keys, backfills partitions: they do not make the table fresh. Neither does a
        # limited load, unless raw has nothing else.
        f"select {expression} {published} and strategy not in ({_UNLIMITED}) and (strategy <> 'limited' or not exists "
        f"(select {published} and strategy not in ({_PARTIAL})))"
    )
