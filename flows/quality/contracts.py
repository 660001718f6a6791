"""Contract files: validation beyond soda's parser, and the database they refer to."""

import json
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from flows.values.errors import ConfigurationError

# The name of the warehouse in contracts: `dataset: warehouse/<database>/<schema>/<table>`.
DATA_SOURCE = "warehouse"
_DATASET_LINE = re.compile(r"^dataset:.*$", re.MULTILINE)
_DATASET_FORM = re.compile(r"[^/\s]+/[^/\s]+/(?P<schema>[^/\s]+)/(?P<table>[^/\s]+)")


def validate_contract(path: Path) -> list[str]:
    """Violations of soda's JSON schema in a contract, each with its location; empty if there are none.

    Soda's own parser accepts unknown keys. It also accepts a contract without checks.
    """
    try:
        contract = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return [f"cannot be read: {type(error).__name__}"]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return [f"is not YAML: line {mark.line + 1}" if mark else "is not YAML"]
    problems = [
        f"{'.'.join(str(part) for part in error.absolute_path) or 'the contract'}: {_shortened(error)}"
        for error in sorted(_validator().iter_errors(contract), key=lambda error: [str(p) for p in error.absolute_path])
    ]
    if not problems and not _DATASET_FORM.fullmatch(str(contract.get("dataset"))):
        problems.append(f"dataset: write it as {DATA_SOURCE}/<database>/<schema>/<table>")
    if not problems and not _holds_a_check(contract):
        problems.append("the contract: has no check")
    return problems


@lru_cache
def _validator() -> jsonschema.Draft202012Validator:
    # Looked up without importing soda, which takes 1.0 s.
    spec = find_spec("soda_core")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("soda-core is not installed", where="soda", fix="install it: `uv sync`")
    schema = Path(spec.submodule_search_locations[0], "contracts", "soda_data_contract_json_schema_1_0_0.json")
    return jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))


def _shortened(error: jsonschema.ValidationError) -> str:
    """The deepest reason: `anyOf` itself only states that nothing matched, and prints the full contract."""
    best = jsonschema.exceptions.best_match([error])
    reason = best.message if best is not None else error.message
    return reason if len(reason) <= 160 else f"{reason[:157]}…"


def _holds_a_check(contract: dict[str, Any]) -> bool:
    return bool(contract.get("checks")) or any(column.get("checks") for column in contract.get("columns") or [])


def point_at(text: str, database: str, schema_prefix: str) -> str:
    """The contract's text with its dataset in the connected database; line numbers do not change."""
    form = _DATASET_FORM.fullmatch(str(yaml.safe_load(text)["dataset"]))
    if form is None:  # validate_contract has checked it
        raise ValueError("the dataset's name is malformed")
    dataset = f"{DATA_SOURCE}/{database}/{schema_prefix}{form['schema']}/{form['table']}"
    return _DATASET_LINE.sub(lambda _: f"dataset: {json.dumps(dataset)}", text, count=1)
