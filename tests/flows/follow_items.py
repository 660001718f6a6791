"""The flow follow, in a process that knows the source of `tests.kinds.changelog.killable` and no other."""

from flows.follow import follow
from flows.verbs import find
from tests.kinds.changelog.killable import SOURCE

vars(find)["SOURCES"] = (SOURCE,)

__all__ = ["follow"]
