"""What prefect.yaml says of the sources."""

from flows.declare import Replace
from flows.declare.source import Source
from flows.kinds.postgres import Database, Table
from flows.render.ingest_deployments import follows_ingests


def source(name: str, schedule: str | None) -> Source:
    return Database(name, connection=name, schedule=schedule, tables=[Table("t", key="id", load=Replace())])


def followed(*sources: Source) -> list[str]:
    (trigger,) = follows_ingests(sources)
    assert trigger["require"] == "all"
    return [part["match_related"]["prefect.resource.name"] for part in trigger["triggers"]]


def test_transform_follows_every_ingest_of_one_cadence() -> None:
    assert followed(source("a", "5 * * * *"), source("b", "25 * * * *")) == ["ingest-a", "ingest-b"]


def test_hourly_sources_do_not_wait_for_a_daily_one() -> None:
    """A trigger that waits for all would fire once a day, and the hourly sources reach gold as seldom."""
    assert followed(source("a", "5 * * * *"), source("daily", "0 6 * * *"), source("never", None)) == ["ingest-a"]


def test_ingests_are_waited_for_as_long_as_their_cadence() -> None:
    assert follows_ingests([source("daily", "0 6 * * *")])[0]["within"] == 24 * 3600


def test_without_schedules_there_is_nothing_to_follow() -> None:
    assert follows_ingests([source("never", None)]) == []
