"""What in a node's code makes its result depend on more than its declared inputs: the clock, or the catalog."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

#: A result that differs between two builds of the same rows, unless the node says that it does not matter.
_CLOCK = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random|random_normal|setseed"
    r"|gen_random_uuid|gen_random_bytes|uuidv4|uuidv7|uuid_generate_v\w+|nextval|currval|lastval|txid_current\w*"
    r"|pg_current_\w+|current_setting|inet_\w+_addr|inet_\w+_port)\"?\s*\("
    r"|\b(?:current_date|current_timestamp|current_time|localtimestamp|localtime|tablesample"
    r"|run_started_at|invocation_id|invocation_args_dict|selected_resources|thread_id)\b"
    r"|'\s*(?:now|today|yesterday|tomorrow)(?:\s+[\w:+.-]+)*\s*'"
    r"|\bmodules\s*\.\s*(?:datetime|pytz)"
    r"|\bage\"?\s*\((?:[^,()]|\([^()]*\))*\)",  # with one argument, it is the age today
    re.IGNORECASE,
)
_ZONES = re.compile(r"\bat\s+(?:time\s+zone|local)\b|\btimezone\s*\(|\bset_config\b", re.IGNORECASE)
_INTROSPECTION = re.compile(
    r"\b(?:run_query|call\s+statement|load_relation|load_cached_relation|get_relation|get_columns_in_relation"
    r"|get_rows_different_sql|get_missing_columns|list_relations\w*|list_schemas|check_schema_exists|load_result"
    r"|dbt_metadata_envs|adapter\s*\.\s*(?:execute|add_query)|\w*query_to_xml\w*|\w*table_to_xml\w*"
    r"|\w*schema_to_xml\w*|database_to_xml\w*|dblink\w*|to_reg\w+|obj_description|col_description|information_schema"
    # Tables and functions of the catalog; not the schema's own name, which only qualifies.
    r"|pg_(?!catalog\b|typeof\b|input_is_valid\b|input_error_info\b)\w+)\b"
    r"|\{[{%][^}]*\bgraph\b|\bRelation\s*\.\s*create\b",
    re.IGNORECASE,
)
# A literal is kept: it may contain what begins a comment. It ends with its line at the latest, so that an apostrophe in
# Jinja hides no comment below.
_COMMENTS = re.compile(r"('[^'\n]*')|\{#.*?#\}|/\*.*?\*/|--[^\n]*", re.DOTALL)
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# `from` inside of expressions names no relation.
_NO_RELATION = re.compile(
    r"\bdistinct\s+from\b|\b(?:extract|substring|overlay|trim)\s*\([^()]*?\bfrom\b", re.IGNORECASE
)
_PART = r"(?:\"[^\"]+\"|[a-z_]\w*)"
_RELATION = re.compile(
    rf"\b(?:from|join|only|table)\s+\(*\s*({_PART}(?:\s*\.\s*{_PART}){{1,2}})(?![\w\"])(?!\s*\()", re.IGNORECASE
)
_CALL = re.compile(r"\"?([a-z_]\w*)\"?\s*\(", re.IGNORECASE)


def without_comments(code: str) -> str:
    """SQL or Jinja without its comments."""
    return _COMMENTS.sub(lambda found: found[1] or " ", code)


def reads_clock(code: str) -> bool:
    """Whether the code reads the clock, or anything else that changes between builds of the same rows."""
    return _CLOCK.search(without_comments(code)) is not None


def reads_catalog(code: str) -> bool:
    """Whether the code asks the database for more than the rows of its inputs."""
    return _INTROSPECTION.search(without_comments(code)) is not None


def converts_zones(code: str) -> bool:
    """Whether the code tells the time of other time zones than the session's, where days begin at other moments."""
    return _ZONES.search(without_comments(code)) is not None


def called_functions(texts: Iterable[str]) -> tuple[str, ...]:
    """Names of functions that SQL calls, in lower case; with them those of types and others before a parenthesis."""
    found = {name.lower() for text in texts for name in _CALL.findall(_sql(text))}
    return tuple(sorted(found))


def named_relations(code: str, schemas: Collection[str] = ()) -> list[str]:
    """Relations, as schema.name, that SQL names itself, without `ref` or `source`: dbt does not know them as inputs.

    A name in one of `schemas` counts wherever it is; any other where only a relation can be.
    """
    sql = _NO_RELATION.sub(" ", _sql(code))
    named = (re.sub(r"[\s\"]", "", name) for name in _RELATION.findall(sql))
    found = [".".join(name.split(".")[-2:]) for name in named]
    if schemas:
        either = "|".join(re.escape(schema) for schema in sorted(schemas))
        anywhere = rf"(?<!\w)\"?({either})\"?\s*\.\s*({_PART})(?!\w)(?!\s*[.(])"
        found += [f"{schema}.{name.strip(chr(34))}" for schema, name in re.findall(anywhere, sql, re.IGNORECASE)]
    return sorted(set(found))


def _sql(code: str) -> str:
    return _JINJA.sub(" ? ", without_comments(code))
