"""Progress of the current process: the command line subscribes to it; a worker has no subscriber."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A step that began, progresses, or ended.

    `name` is the table or stage, `state` one of began, moving, done, stopped, failed; `text` has details in few words.
    """

    name: str
    state: str
    text: str = ""


Listener = Callable[[Step], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Subscribe to every step of this process. Returns the function that unsubscribes."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def report(name: str, state: str, text: str = "") -> None:
    """Publish a step to the subscriber."""
    for listener in tuple(_listeners):
        listener(Step(name, state, text))
