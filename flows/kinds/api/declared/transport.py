"""What contradicts the declared form of a body, or a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.kinds.api.declared.changes import ChangeToken, Since
from flows.kinds.api.declared.pagination import Offset, PageNumber

if TYPE_CHECKING:
    from flows.kinds.api.declared.endpoint import Endpoint


def transport_problem(endpoint: Endpoint) -> tuple[str, str] | None:
    """What contradicts the form of the body or the job, and the fix."""
    job, listed = endpoint.job, endpoint.records_as == "list"
    if endpoint.format is not None and (
        endpoint.total is not None or endpoint.only is not None or endpoint.etag or not listed
    ):
        return "total, only, etag and records_as are about JSON", "remove them, or remove format="
    counts = isinstance(endpoint.pagination, PageNumber | Offset)
    if counts and endpoint.format is not None and endpoint.job is None and isinstance(endpoint.cursor, Since):
        return (
            "whether such a list has changed while it was read cannot be found out",
            "remove the cursor, or declare a pagination by tokens or links",
        )
    if isinstance(endpoint.cursor, ChangeToken) and (endpoint.format is not None or job is not None):
        return "a change token is in a page of JSON", "declare a Since cursor, or none"
    if endpoint.properties is not None and (
        endpoint.format is not None or job is not None or endpoint.etag or endpoint.shrinks
    ):
        return (
            "records that come in parts are those of pages of JSON, all of one size, and no ETag is that of all parts",
            'remove properties=, or format, job, etag and then="smaller"',
        )
    if endpoint.form and (isinstance(endpoint.body, str) or (endpoint.body is None and job is None)):
        return "a form is sent, and there is none", 'write body={"name": "value"}'
    if job is None:
        return None
    if endpoint.parent is not None or endpoint.etag or endpoint.total is not None:
        return "a job has no parent, ETag or total in its pages", "remove them; the job itself may have a total"
    if not job.result and "result" in job.names_in(endpoint.path):
        return "{result} is in the path, and the job has none", 'write Job(…, result="documentId")'
    if job.download and endpoint.format is None:
        return "a job's document has a format", "write format=Csv(), NdJson() or Xml(…)"
    return None
