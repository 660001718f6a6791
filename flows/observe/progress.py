"""What is going on right now, for whoever watches: the command line listens here; a worker has nobody listening."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that began, moves on, or ended.

    `name` is the table or stage, `state` one of began, moving, done, failed; `text` says the rest in a few words.
    """

    name: str
    state: str
    text: str = ""


Listener = Callable[[Step], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Hear every step of this process from now on. Returns the call that ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def report(name: str, state: str, text: str = "") -> None:
    """Tell whoever listens."""
    for listener in tuple(_listeners):
        listener(Step(name, state, text))
