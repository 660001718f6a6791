"""What becomes of a file after the commit of its rows."""

from dataclasses import dataclass

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Leave:
    """It stays where it is."""


@dataclass(frozen=True, slots=True)
class Delete:
    """It is deleted."""


@dataclass(frozen=True, slots=True)
class Archive:
    """It is moved into a folder beside the others, under its own path.

        Archive("done")          in/prices.csv → done/in/prices.csv

    Files there are not read again. If one of that name is there already, a part of the new one's hash is added.
    """

    folder: str

    def __post_init__(self) -> None:
        parts = self.folder.split("/")
        if not self.folder or any(part in ("", ".", "..") for part in parts):
            raise DeclarationError(
                f"{self.folder!r} is no folder within that of the connection URL",
                where="Archive",
                fix='write Archive("done")',
            )


Release = Leave | Delete | Archive
