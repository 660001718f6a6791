"""The JSON schema of OpenLineage events, read off the client's classes, which are generated from the specification.

The specification's own files are in no package. Where its repository is at hand, MEDALLION_OPENLINEAGE_SPEC names its
folder `spec`, and events are held against those files as well.
"""

import json
import os
import sys
import types
import typing
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import attr
from jsonschema import Draft202012Validator, FormatChecker
from openlineage.client import facet_v2
from openlineage.client.generated import base
from referencing import Registry, Resource

SPECIFICATION = os.environ.get("MEDALLION_OPENLINEAGE_SPEC", "")
_FORMATS = {"eventTime": "date-time", "producer": "uri", "_producer": "uri", "_schemaURL": "uri", "schemaURL": "uri",
            "runId": "uuid"}  # fmt: skip
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
# Facets by the key under which an event carries them.
FACETS = {
    "parent": facet_v2.parent_run.ParentRunFacet,
    "tags": facet_v2.tags_run.TagsRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "columnLineage": facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "dataQualityAssertions": facet_v2.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet,
}


def mistakes(event: dict[str, Any]) -> list[str]:
    """What of an event is not as the specification wants it; and every facet that it does not know."""
    validators = [_of_client()]
    if SPECIFICATION:
        validators.append(_of_specification(Path(SPECIFICATION)))
    found = [
        f"{error.json_path}: {error.message}" for validator in validators for error in validator.iter_errors(event)
    ]
    return found + [f"unknown facet {name}" for name in _facet_names(event) if name not in FACETS]


def _facet_names(event: dict[str, Any]) -> Iterable[str]:
    yield from event["run"].get("facets") or {}
    yield from event["job"].get("facets") or {}
    for dataset in [*event["inputs"], *event["outputs"]]:
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from dataset.get(kind) or {}


def _of_client() -> Draft202012Validator:
    definitions: dict[str, Any] = {}
    schema = {**_reference(base.RunEvent, definitions), "$defs": definitions}
    return Draft202012Validator(schema, format_checker=FormatChecker())


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema of a class, which is written where it is met first: classes hold one another."""
    name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _schema_of(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _schema_of(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, localns={**vars(typing), **vars(sys.modules[kind.__module__])})
    properties, required = {}, []
    for field in attr.fields(kind):
        wanted = _schema_of_hint(hints.get(field.name, str), field.name, definitions)
        properties[field.name] = wanted | ({"format": _FORMATS[field.name]} if field.name in _FORMATS else {})
        if field.default is attr.NOTHING or field.name in {"_producer", "_schemaURL", "producer", "schemaURL"}:
            required.append(field.name)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if not hasattr(kind, "with_additional_properties") or kind in FACETS.values():
        schema["additionalProperties"] = False
    return schema


def _schema_of_hint(hint: Any, name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _schema_of_hint(inner, name, definitions)
    if origin is list:
        return {"type": "array", "items": _schema_of_hint(arguments[0], name, definitions)}
    if origin is dict and name in {"facets", "inputFacets", "outputFacets"}:
        return {"type": "object", "properties": {key: _reference(kind, definitions) for key, kind in FACETS.items()}}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of_hint(arguments[1], name, definitions)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if attr.has(hint):
        return _reference(hint, definitions)
    return {"type": _PLAIN[hint]} if hint in _PLAIN else {}


def _of_specification(folder: Path) -> Draft202012Validator:
    event = json.loads((folder / "OpenLineage.json").read_text())
    resources = [(event["$id"], Resource.from_contents(event))]
    for file in (folder / "facets").glob("*.json"):
        facet = json.loads(file.read_text())
        resources.append((facet["$id"], Resource.from_contents(facet)))
    return Draft202012Validator(event, registry=Registry().with_resources(resources), format_checker=FormatChecker())
