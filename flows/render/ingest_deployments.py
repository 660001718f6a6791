"""The sources' part of prefect.yaml: an ingest deployment each, and the trigger of transform.

Only these parts are rendered, each between two markers: the rest of the file is maintained by hand, since settings of
transform and pipeline do not follow from declarations.
"""

import re
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from flows.declare.budget import STOPPED_AT_BUDGET
from flows.declare.cadence import longest_gap
from flows.declare.source import Source
from flows.render.rendered_yaml import dump
from flows.values.errors import ConfigurationError

BEGIN = "  # rendered by `medallion render` from flows/sources; do not edit this block"
END = "  # end of the rendered block"
FOLLOWS_BEGIN = "    # rendered by `medallion render` from the schedules in flows/sources"
FOLLOWS_END = "    # end of the rendered triggers"
# A crashed ingest is restarted, and a cancelled one left its work to another run: neither has ended.
_ENDED = [f"prefect.flow-run.{name}" for name in ("Completed", STOPPED_AT_BUDGET, "Failed", "TimedOut")]


def with_ingest_deployments(prefect_yaml: str, sources: Sequence[Source]) -> str:
    """The text of prefect.yaml with its marked parts replaced.

    Raises:
        ConfigurationError: markers are missing or duplicated.
    """
    deployments = textwrap.indent(dump([ingest_deployment(source) for source in sources]), "  ")
    follows = textwrap.indent(dump({"triggers": follows_ingests(sources)}), "    ")
    text = _replaced(prefect_yaml, BEGIN, END, "`deployments:`", deployments)
    return _replaced(text, FOLLOWS_BEGIN, FOLLOWS_END, "`- name: transform`", follows)


def _replaced(text: str, begin: str, end: str, below: str, rendered: str) -> str:
    place = re.compile(rf"(?<=^{re.escape(begin)}\n).*?(?=^{re.escape(end)}$)", re.MULTILINE | re.DOTALL)
    if len(place.findall(text)) != 1:
        raise ConfigurationError(
            "the markers around a rendered part are missing or duplicated",
            where="prefect.yaml",
            fix=f"put these two lines below {below}, exactly once:\n{begin}\n{end}",
        )
    return place.sub(lambda _: rendered, text)


def ingest_deployment(source: Source) -> dict[str, Any]:
    """One deployment: a source, its schedule, never two parallel runs."""
    deployment: dict[str, Any] = {
        "name": f"ingest-{source.name}",
        "entrypoint": "flows/ingest.py:ingest",
        "description": f"{source.description or source.name} → {source.raw_schema}",
        "tags": ["ingest", f"source:{source.name}"],
        "parameters": {"source": source.name},
        # A second parallel run would have nothing to do: the next scheduled run loads the rest.
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
        "work_pool": {"name": "local"},
    }
    if source.schedule is not None:
        deployment["schedules"] = [{"cron": source.schedule, "timezone": "UTC", "slug": f"ingest-{source.name}"}]
    return deployment


def follows_ingests(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The trigger of transform: it starts when all ingests of the shortest cadence finish; none without schedules.

    Waiting for a daily source would delay the hourly ones, so less frequent sources are built by the next transform. A
    failed ingest does not keep the others from gold.
    """
    gaps = {source.name: longest_gap(source.schedule, source.name) for source in sources if source.schedule is not None}
    shortest = min(gaps.values(), default=timedelta())
    ended = [
        {
            "type": "event",
            "posture": "Reactive",
            "expect": list(_ENDED),
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": f"ingest-{name}"},
        }
        for name, gap in gaps.items()
        if gap == shortest
    ]
    if not ended:
        return []
    return [
        {
            "type": "compound",
            "name": "transform follows the ingests",
            "require": "all",
            "within": int(shortest.total_seconds()),
            "triggers": ended,
        }
    ]
