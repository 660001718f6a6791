"""Fields of records that are requested by name, more of them than one request may name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path, plain_steps

_FIX = 'write Properties("properties", names=("email", "city"), most=50)'


@dataclass(frozen=True, slots=True)
class NamesAt:
    """Names that the API lists: where, and at which path of the response.

    NamesAt("/crm/v3/properties/contacts", at="results.*.name")
    """

    path: str
    at: str

    def __post_init__(self) -> None:
        parse_path(self.at, many=True)
        if not self.path.startswith("/"):
            raise DeclarationError(f"the path {self.path!r} is not absolute", where="properties", fix="start it with /")


@dataclass(frozen=True, slots=True)
class Properties:
    """Fields that are requested by name in a `parameter`, at most so many per request; their records are joined by key.

        Properties("properties", names=("email", "city", …), most=50, at="properties")
        Properties("fields", names=NamesAt("/fields", at="*.id"), characters=2000, always=("updated",))

    A request names `most` fields, or as many as have so many `characters`. `at` is where a record has them; without, it
    is the record itself. Each page is requested once for each of these parts. Those named in `always`, and the key and
    the cursor if they are among the `names`, are in each part. In the query and in forms the names are joined by the
    `separator`, in a JSON body they are a list.

    What several parts have of a record must be equal, since otherwise the record has changed between them, and the page
    is requested again. `may_differ` are fields that are different in each response.
    """

    parameter: str
    names: tuple[str, ...] | NamesAt
    most: int | None = None
    characters: int | None = None
    at: str = ""
    always: tuple[str, ...] = ()
    separator: str = ","
    may_differ: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"properties {self.parameter}"
        parse_path(self.parameter)
        if self.at:
            plain_steps(self.at)
        given: object = self.names
        if not isinstance(given, NamesAt) and (not isinstance(given, tuple) or not given or len({*given}) < len(given)):
            raise DeclarationError("its names are not a list of different texts", where=where, fix=_FIX)
        if (self.most is None) == (self.characters is None):
            raise DeclarationError("nothing says how many fields a request may name", where=where, fix=_FIX)
        if not self.parameter or not self.separator:
            raise DeclarationError("it has no parameter, or no separator", where=where, fix=_FIX)
        self.parts((), self.names if isinstance(self.names, tuple) else ("",))

    def parts(self, keys: Iterable[str], names: Iterable[str]) -> list[tuple[str, ...]]:
        """The names of each request. Those of `keys` that are among the `names` are in each.

        Raises:
            DeclarationError: a request has no place for another name.
        """
        known = dict.fromkeys(names)
        always = tuple(dict.fromkeys((*self.always, *(key for key in keys if key in known))))
        found = list[tuple[str, ...]]()
        for name in known:
            if name in always:
                continue
            if found and self._has_place((*found[-1], name)):
                found[-1] = (*found[-1], name)
            elif self._has_place((*always, name)):
                found.append((*always, name))
            else:
                raise DeclarationError(
                    f"a request has no place for {name!r}, beside the fields that are in each",
                    where=f"properties {self.parameter}",
                    fix="declare a larger most= or characters=, or fewer fields in always=",
                )
        return found or [always]

    def _has_place(self, names: tuple[str, ...]) -> bool:
        if self.most is not None:
            return len(names) <= self.most
        return len(self.separator.join(names)) <= (self.characters or 0)
