"""Columns of which profiles (docs/quality.md#profiles) have only the null share.

Patterns of `source.table.column`, and of `source.table.payload.field` for a record's field. Masked columns and those
that identify a declared subject need not be listed.
"""

NULLS_ONLY = (
    "shop.households.latitude",  # where a person lives
    "shop.households.longitude",
)
