"""The ingest deployments inside prefect.yaml: one per source.

Only this part is rendered, between two marks: the file belongs to those who deploy, and what they set for transform and
pipeline follows from no declaration.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from flows.render.rendered_yaml import dump
from flows.spec import Source
from flows.spec.errors import ConfigurationError

BEGIN = "  # rendered by `medallion render` from flows/sources; do not edit up to the next mark"
END = "  # end of the rendered part"
_PLACE = re.compile(rf"(?<=^{re.escape(BEGIN)}\n).*?(?=^{re.escape(END)}$)", re.MULTILINE | re.DOTALL)


def with_ingest_deployments(prefect_yaml: str, sources: Sequence[Source]) -> str:
    """The text of prefect.yaml with its marked part replaced.

    Raises:
        ConfigurationError: the marks are missing, or not there exactly once.
    """
    if len(_PLACE.findall(prefect_yaml)) != 1:
        raise ConfigurationError(
            "the marks around the rendered deployments are missing or doubled",
            where="prefect.yaml",
            next_move=f"put these two lines below `deployments:`, once:\n{BEGIN}\n{END}",
        )
    rendered = textwrap.indent(dump([ingest_deployment(source) for source in sources]), "  ")
    return _PLACE.sub(lambda _: rendered, prefect_yaml)


def ingest_deployment(source: Source) -> dict[str, Any]:
    """One deployment: a source, its schedule, never two runs of it at once."""
    deployment: dict[str, Any] = {
        "name": f"ingest-{source.name}",
        "entrypoint": "flows/ingest.py:ingest",
        "description": f"{source.description or source.name} → {source.raw_schema}",
        "tags": ["ingest", f"source:{source.name}"],
        "parameters": {"source": source.name},
        # A run that starts while another works would find nothing left to do: the next one on schedule takes the rest.
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "work_pool": {"name": "local"},
    }
    if source.schedule is not None:
        deployment["schedules"] = [{"cron": source.schedule, "timezone": "UTC", "slug": f"ingest-{source.name}"}]
    return deployment
