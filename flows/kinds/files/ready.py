"""When a file is complete, so that it may be read."""

from dataclasses import dataclass
from datetime import timedelta
from string import Formatter

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Settled:
    """A file is complete once nothing was written to it for so long.

        Settled("30 s")        for senders that write slowly: at least the longest pause between two writes
        Settled("0 s")         for senders that rename a complete file into the folder, and for object stores

    Whatever is declared, a file that changes while it is read is skipped.
    """

    quiet: str = "30 s"

    @property
    def seconds(self) -> float:
        """The pause in seconds."""
        return self._quiet.total_seconds()

    @property
    def _quiet(self) -> timedelta:
        return parse_duration(self.quiet, "Settled")

    def __post_init__(self) -> None:
        _ = self._quiet


@dataclass(frozen=True, slots=True)
class Marker:
    """A file is complete once another one lies beside it. `{name}` is its name, `{stem}` its name up to the first dot.

    Marker("{name}.done")          prices.csv.gz and prices.csv.gz.done
    Marker("{stem}.ok")            prices.csv.gz and prices.ok
    """

    pattern: str

    def of(self, name: str) -> str:
        """The marker's name for a file's name."""
        return self.pattern.format(name=name, stem=name.partition(".")[0])

    def __post_init__(self) -> None:
        fields = {field for _, field, _, _ in Formatter().parse(self.pattern) if field is not None}
        if not fields or fields - {"name", "stem"} or "/" in self.pattern:
            raise DeclarationError(
                f"{self.pattern!r} names no marker of a file", where="Marker", fix='write Marker("{name}.done")'
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file is complete once a manifest in its folder lists it, and is refused if it contradicts the manifest.

        Manifest("*.manifest.json")

    A manifest is JSON: `{"files": [{"name": "a.csv", "size": 120, "rows": 4, "sha256": "…"}]}`, of which only `name`
    is required, or a list of names. `size` and `sha256` are those of the file as it lies there, packed or not.
    """

    pattern: str

    def __post_init__(self) -> None:
        if "/" in self.pattern or not self.pattern:
            raise DeclarationError(
                f"{self.pattern!r} names no manifest", where="Manifest", fix='write Manifest("*.manifest.json")'
            )


Ready = Settled | Marker | Manifest


def refuse_ready(ready: object, where: str) -> None:
    """Refuse what does not say when a file is complete.

    Raises:
        DeclarationError: it is none of the three.
    """
    if not isinstance(ready, Settled | Marker | Manifest):
        raise DeclarationError(
            f"ready={ready!r} does not say when a file is complete",
            where=where,
            fix='write Settled("30 s"), Marker("{name}.done") or Manifest("*.manifest.json")',
        )
