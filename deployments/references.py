"""Ids that a server has not given yet: automations name deployments and blocks by id, declarations by name.

A reference is a UUID that follows from the name, so it stands wherever Prefect's own models want an id, and two
declarations of the same thing are equal. It is swapped for the server's id when written, and back when read.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from deployments.resource import Kind

_NAMESPACE = UUID("5a1d2f0c-7f1e-4c83-9a55-6d0f5b0a2c41")


def reference(kind: Kind, name: str) -> UUID:
    """What stands for the id of that thing."""
    return uuid5(_NAMESPACE, f"{kind} {name}")


def with_ids(document: Any, ids: Mapping[tuple[Kind, str], str]) -> Any:
    """The document with the server's ids in the place of references."""
    return _exchanged(document, {str(reference(*key)): identifier for key, identifier in ids.items()})


def with_references(document: Any, ids: Mapping[tuple[Kind, str], str]) -> Any:
    """The document with references in the place of the server's ids."""
    return _exchanged(document, {identifier: str(reference(*key)) for key, identifier in ids.items()})


def _exchanged(document: Any, table: Mapping[str, str]) -> Any:
    text = json.dumps(document)
    for found, instead in table.items():
        text = text.replace(found, instead)
    return json.loads(text)
