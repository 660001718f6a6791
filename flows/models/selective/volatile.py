"""What in a node's code makes its result depend on more than its declared inputs: the clock, or the catalog."""

from __future__ import annotations

import re

#: A result that differs between two builds of the same rows, unless the node says that it does not matter.
_CLOCK = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random|random_normal"
    r"|gen_random_uuid|uuidv4|uuidv7|nextval|txid_current|pg_current_xact_id)\s*\("
    r"|\b(?:current_date|current_timestamp|current_time|localtimestamp|localtime|run_started_at|invocation_id)\b"
    r"|'(?:now|today|yesterday|tomorrow)'"
    r"|\bmodules\s*\.\s*(?:datetime|pytz)"
    r"|\bage\s*\([^,()]*\)",  # with one argument, it is the age today
    re.IGNORECASE,
)
_INTROSPECTION = re.compile(
    r"\b(?:run_query|call\s+statement|load_relation|load_cached_relation|get_relation|get_columns_in_relation"
    r"|get_rows_different_sql|list_relations|check_schema_exists|load_result|dbt_metadata_envs|graph\s*\."
    r"|pg_class|pg_stat\w*|pg_attribute|information_schema)\b",
    re.IGNORECASE,
)
_COMMENTS = re.compile(r"\{#.*?#\}|/\*.*?\*/|--[^\n]*", re.DOTALL)
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# `from` inside of expressions names no relation.
_NO_RELATION = re.compile(
    r"\bdistinct\s+from\b|\b(?:extract|substring|overlay|trim)\s*\([^()]*?\bfrom\b", re.IGNORECASE
)
_PART = r"(?:\"[^\"]+\"|[a-z_]\w*)"
_RELATION = re.compile(rf"\b(?:from|join)\s+({_PART}(?:\s*\.\s*{_PART}){{1,2}})(?![\w\"])(?!\s*\()", re.IGNORECASE)


def without_comments(code: str) -> str:
    """SQL or Jinja without its comments."""
    return _COMMENTS.sub(" ", code)


def reads_clock(code: str) -> bool:
    """Whether the code reads the clock, or anything else that changes between builds of the same rows."""
    return _CLOCK.search(without_comments(code)) is not None


def reads_catalog(code: str) -> bool:
    """Whether the code asks the database for more than the rows of its inputs."""
    return _INTROSPECTION.search(without_comments(code)) is not None


def named_relations(code: str) -> list[str]:
    """Relations that the SQL names itself, without `ref` or `source`: dbt does not know that they are inputs."""
    sql = _NO_RELATION.sub(" ", _JINJA.sub(" ? ", without_comments(code)))
    return sorted({re.sub(r"[\s\"]", "", found) for found in _RELATION.findall(sql)})
