"""The project that is deployed in the game: a copy of this one, with the game's own sources and schedules."""

import shutil
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
_FOLDERS = ("flows", "blocks", "deployments", "infra")
#: What the declared sources say of people, calendars and approvals stays as it is; these name the team's own tables.
_SOURCES = {
    "__init__.py": '''"""The sources of the game."""

from flows.sources.game import game
from flows.sources.gameapi import gameapi

SOURCES = (game, gameapi)
''',
    "game.py": '''"""A database that somebody writes to all the time."""

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table

game = Database(
    "game",
    connection="game",
    tables=[
        Table("events", key="event_id", cursor=Sequence("event_id"), load=Append()),
        Table(
            "accounts",
            key="account_id",
            cursor=Timestamp("updated_at", lag="30 sec"),
            load=Merge(),
            deletes=True,
            rules=(Rule("balance_not_negative", "balance >= 0"),),
            max_quarantined=0.01,
            quarantine_floor=3,
            max_deleted=0.3,
        ),
        Table("prices", key="price_id", load=Replace()),
    ],
)
''',
    "gameapi.py": '''"""An API with one list."""

from flows.declare import Replace
from flows.kinds.api import Api, ApiKeyHeader, Endpoint, PageNumber

gameapi = Api(
    "gameapi",
    connection="gameapi",
    auth=ApiKeyHeader("X-API-Key"),
    pagination=PageNumber(),
    endpoints=[Endpoint("items", path="/items", key_type="bigint", total="total", load=Replace(), page_size=25)],
)
''',
    "subjects.py": '"""Nobody is in the game."""\n\nSUBJECTS = ()\n',
    "profiling.py": '"""Nothing is left out."""\n\nNULLS_ONLY = ()\n',
}
_DEPLOYMENT = """
  - name: ingest-{source}
    entrypoint: flows/ingest.py:ingest
    tags: [ingest, "source:{source}"]
    parameters: {{source: {source}}}
    concurrency_limit: {{limit: 1, collision_strategy: CANCEL_NEW}}
    work_pool: {{name: local}}
    schedules:
      # The sixth field is that of seconds.
      - cron: "* * * * * */{seconds}"
        timezone: UTC
        slug: ingest-{source}
"""


def copy_project(folder: Path, *, every_seconds: int) -> Path:
    """Copy what flow runs, worker and watch need into the folder, which is created; deployments run so often."""
    folder.mkdir()
    for name in _FOLDERS:
        shutil.copytree(_CHECKOUT / name, folder / name)
    shutil.copy(_CHECKOUT / "pyproject.toml", folder)
    declared = folder / "flows/sources"
    for name in ("shop.py", "marketing.py", "currency.py"):
        (declared / name).unlink()
    for name, text in _SOURCES.items():
        (declared / name).write_text(text)
    (folder / "prefect.yaml").write_text(
        f"name: medallion\npull:\n  - prefect.deployments.steps.set_working_directory:\n      directory: {folder}\n"
        "deployments:"
        + "".join(_DEPLOYMENT.format(source=source, seconds=every_seconds) for source in ("game", "gameapi"))
    )
    return folder
