"""`python -m tests.verbs.one_replay SOURCE.TABLE`: one replay of the table `t`, in a process that may die."""

import asyncio
import sys

from flows.declare import Merge, Rule
from flows.kinds.postgres import Database, Table
from flows.values.settings import settings
from flows.verbs import find
from flows.verbs.replay import replay

#: As the rows were refused, and with the rule that was corrected.
STRICT = Table("t", key="id", load=Merge(), rules=(Rule("positive", "v >= 0"),), max_quarantined=1)
LOOSE = Table("t", key="id", load=Merge(), rules=(Rule("positive", "v >= -1"),), max_quarantined=1)
SHOP = Database("shop", connection="shop", tables=[LOOSE])


def main() -> None:
    settings.cache_clear()
    setattr(find, "SOURCES", (SHOP,))  # noqa: B010
    asyncio.run(replay([sys.argv[1]], "ada"))


if __name__ == "__main__":
    main()
