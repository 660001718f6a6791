"""What tables of gold rest on: for those who run the platform, and for those who read gold."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from flows.dashboard.desk import desk, needs
from flows.dashboard.people import ANALYST, VIEWER
from flows.dashboard.views import page
from flows.models.receipts import has_receipts, read_receipts, summary, tests_in_words


@needs(VIEWER, ANALYST)
async def receipts(request: Request) -> Response:
    """All receipts in short, or one in full."""
    table = request.query_params.get("table", "").strip() or None
    async with desk(request).reader.session() as connection:
        exist = table is not None or await has_receipts(connection)
        found = await read_receipts(connection, table) if exist else []
    return page(
        request, "receipts.html", f"Receipt of {table}" if table else "Receipts", receipts=found,
        receipt=found[0] if table else None, summary=summary, tests_in_words=tests_in_words,
        with_problems=sum(bool(one.problems) for one in found),
    )  # fmt: skip
