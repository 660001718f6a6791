"""Which macros and variables decide what a node's code becomes: found in the text, not by running it.

dbt records what was called while it parsed. Then `execute` and `is_incremental()` are false, so that calls in such
blocks are missing; and a macro that is passed on as a value was not called at all. So each name of a macro in Jinja
counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_VAR = re.compile(r"\bvar\s*(?:\.\s*has_var\s*)?\(\s*(?:['\"](\w+)['\"]|(.))")
_ENV_VAR = re.compile(r"\benv_var\s*\(\s*(?:['\"](\w+)['\"]|(.))")
_PASSED_ON = re.compile(r"\b(?:env_)?var\b(?!\s*(?:\.\s*has_var\s*)?\()")
# Macros found by a name that is computed, or by dbt itself.
_DYNAMIC = re.compile(r"\bcontext\s*(?:\[|\.get\b)|\bmodel_macros\b")
_DISPATCHED = re.compile(r"^(?:default|postgres)__")
_OF_DBT = frozenset({"dbt", "dbt_postgres"})
# Configuration that no statement is made of; `meta` is read by us alone.
_NOT_RUN = frozenset({"docs", "group", "access", "meta", "tags"})

#: In `meta` of a macro: what it does records a build of the node that calls it, and decides none of its rows.
RECORDS_META = "records_build"


def texts_of(raw: Mapping[str, Any]) -> list[str]:
    """The texts of a node of the manifest that dbt renders: its code, hooks, filters and arguments of its test."""
    config = {key: value for key, value in (raw.get("config") or {}).items() if key not in _NOT_RUN}
    given = (raw.get("test_metadata") or {}).get("kwargs")
    return [raw.get("raw_code") or "", *_strings(config), *_strings(given)]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings(part)]


def jinja_words(text: str) -> set[str]:
    """The words within Jinja's braces."""
    return {word for part in _JINJA.findall(text) for word in _WORD.findall(part)}


@dataclass(frozen=True)
class Macros:
    """The macros of a manifest. Those of dbt itself are covered by its version."""

    manifest: Mapping[str, Any]

    @cached_property
    def own(self) -> Mapping[str, Mapping[str, Any]]:
        """Macros of the project and its packages, by id."""
        return {name: macro for name, macro in self.manifest["macros"].items() if macro["package_name"] not in _OF_DBT}

    def text(self, unique_id: str) -> str:
        return str(self.own[unique_id]["macro_sql"])

    def called(self, raw: Mapping[str, Any]) -> set[str]:
        """The macros that a node may call, also indirectly."""
        return self._closure(self._named(raw) | self._recorded(raw))

    def deciding(self, raw: Mapping[str, Any]) -> set[str]:
        """Those of them that may decide its rows: without macros that only record its build, and what these call."""
        return self._closure((self._named(raw) - self._records) | (self._recorded(raw) - self._of_records))

    def _named(self, raw: Mapping[str, Any]) -> set[str]:
        return {one for text in texts_of(raw) for word in jinja_words(text) for one in self._by_name.get(word, ())}

    @staticmethod
    def _recorded(raw: Mapping[str, Any]) -> set[str]:
        return set((raw.get("depends_on") or {}).get("macros", ()))

    @cached_property
    def _records(self) -> frozenset[str]:
        return frozenset(name for name in self.own if self.meta(name).get(RECORDS_META))

    @cached_property
    def _of_records(self) -> set[str]:
        return self._closure(self._records)

    def meta(self, unique_id: str) -> Mapping[str, Any]:
        """What a macro's properties say of it."""
        macro = self.own[unique_id]
        found: Mapping[str, Any] = (macro.get("config") or {}).get("meta") or macro.get("meta") or {}
        return found

    @cached_property
    def of_all(self) -> list[str]:
        """Macros that may act on every node: called by hooks of the project or by no node, or in dbt's place."""
        of_nodes: set[str] = set()
        of_hooks: set[str] = set()
        for node in (*self.manifest["nodes"].values(), *self.manifest.get("unit_tests", {}).values()):
            if node["resource_type"] == "operation":
                of_hooks |= self.called(node)
            else:
                of_nodes |= self.called(node)
        codes = [node.get("raw_code") or "" for node in self.manifest["nodes"].values()]
        if any(_DYNAMIC.search(text) for text in (*codes, *(self.text(name) for name in self.own))):
            of_nodes = set()
        replaced = {macro["name"] for name, macro in self.manifest["macros"].items() if name not in self.own}
        roots = {
            name
            for name, macro in self.own.items()
            if name not in of_nodes or macro["name"] in replaced or _DISPATCHED.match(macro["name"])
        }
        return sorted(self._closure(roots | of_hooks))

    def _closure(self, macros: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = [name for name in macros if name in self.own]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._calls[name]
        return found

    @cached_property
    def _calls(self) -> Mapping[str, list[str]]:
        calls = {}
        for name, macro in self.own.items():
            # Its own name is in its first line, and `{% macro inner(x) %}` calls nothing.
            body = macro["macro_sql"].partition("%}")[2]
            named = [one for word in jinja_words(body) for one in self._by_name.get(word, ())]
            recorded = (macro.get("depends_on") or {}).get("macros", ())
            calls[name] = sorted({*named, *(one for one in recorded if one in self.own)} - {name})
        return calls

    @cached_property
    def _by_name(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = {}
        for unique_id, macro in self.own.items():
            names.setdefault(macro["name"], []).append(unique_id)
        return names


@dataclass(frozen=True)
class Values:
    """Variables of dbt_project.yml, and what Jinja sees of the environment. `profile`: the text of profiles.yml."""

    variables: Mapping[str, Any]
    environment: Mapping[str, str]
    profile: str = ""

    def named(self, texts: Iterable[str]) -> list[Any]:
        """What these texts name, with its values; all of it if a name is computed."""
        text = "\n".join(texts)
        passed_on = any(_PASSED_ON.search(part) for part in _JINJA.findall(text))
        found: list[Any] = []
        for pattern, values in ((_VAR, self._of_project), (_ENV_VAR, self.environment)):
            names = {match[1] for match in pattern.finditer(text) if match[1]}
            if passed_on or any(match[2] for match in pattern.finditer(text)):
                names = set(values)
            found.append({name: values.get(name) for name in sorted(names)})
        return [*found, self.profile if "target" in jinja_words(text) else ""]

    @cached_property
    def _of_project(self) -> Mapping[str, list[Any]]:
        """Values by name: a variable may be set for all, and for single packages."""
        found: dict[str, list[Any]] = {}
        for name, value in self.variables.items():
            found.setdefault(name, []).append(value)
            for inner, given in value.items() if isinstance(value, Mapping) else ():
                found.setdefault(str(inner), []).append([name, given])
        return found
