"""Lists of several parents by one request: children are told apart, and what each parent's share proves is known.

An API may read fewer keys of a request than it was sent, and says nothing of it: its answer looks as if the others had
no children. So a parent without children is only believed at a place in the request where another one's children have
been seen, counted from either end; a parent that has some is put to the ends of one request to find that out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from flows.kinds.api.declared.parts import Group, Several
from flows.kinds.api.http.json_walk import Absent, Document, kind_of
from flows.kinds.api.pages.children import Outcome, ParentRecord, WithChildren, list_or_refusal
from flows.kinds.api.pages.endpoint_reader import EndpointReader
from flows.kinds.api.pages.page import Page, Start
from flows.values.errors import MedallionError, SourceUnavailable
from flows.values.json_path import plain_steps

# Parents of a group that refuse one by one before the rest of it is not divided any further.
_MOST_REFUSED = 10
_TEXT = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Parents of one request, in its order, and the places of those that have children."""

    parents: Sequence[ParentRecord]
    places: tuple[int, ...]


class Groups:
    """Requests of several parents each.

    A request that is refused is divided, so that one parent does not keep the others away. `kind` is the type of their
    key, `with_children` finds a parent with children in raw.
    """

    def __init__(
        self, reader: EndpointReader, name: str, kind: str, group: Group, with_children: WithChildren | None
    ) -> None:
        self.size = group.size
        self.reader = reader
        self._name, self._kind, self._group = name, kind, group
        self._by = plain_steps(group.by)
        self._with_children = with_children
        self._asked: dict[int, list[_Asked]] = {}
        self._has_list = False
        self._witness: ParentRecord | None = None
        # A single key is always read.
        self._from_start = self._from_end = 1

    async def of(self, parents: Sequence[ParentRecord]) -> list[Outcome]:
        """The list of each parent, or why it cannot be read; of several in one answer, if that can be read."""
        found, asked = list[Outcome](), list[_Asked]()
        waiting = [parents]
        refused = 0
        while waiting:
            some = waiting.pop()
            told = await self._list(some)
            if not isinstance(told, MedallionError) and _is_a_list(told[0]):
                self._has_list = True
                found += told
                if not _is_ignored(told):
                    asked.append(_Asked(some, _places(told)))
                continue
            is_hopeless = refused >= _MOST_REFUSED and not self._has_list
            # One that does not answer is asked no more.
            if len(some) > 1 and not isinstance(told, SourceUnavailable) and not is_hopeless:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
                continue
            refused += 1
            found += [told] * len(some) if isinstance(told, MedallionError) else told
        if len(parents) > 1:
            self._asked[id(parents)] = asked
        return found

    async def settle(self, parents: Sequence[ParentRecord], found: list[Outcome]) -> list[Outcome]:
        """The same; what an answer does not prove of a parent is not taken for it.

        Raises:
            ListUnfinished: the API does not read all keys of a request.
        """
        doubtful = set[str]()
        for asked in self._asked.pop(id(parents), ()):
            self._note(asked)
            count = len(asked.parents)
            empty = [place for place in range(count) if place not in asked.places]
            late = [place for place in empty if place >= self._from_start]
            early = [place for place in empty if count - 1 - place >= self._from_end]
            if late and not await self._shows(asked, late, is_last=True):
                doubtful |= {asked.parents[place].parent for place in late}
            if early and not await self._shows(asked, early, is_last=False):
                doubtful |= {asked.parents[place].parent for place in early}
        return [
            [*outcome[:-1], replace(outcome[-1], is_proven=False)]
            if parent.parent in doubtful and not isinstance(outcome, MedallionError)
            else outcome
            for parent, outcome in zip(parents, found, strict=True)
        ]

    def _note(self, asked: _Asked) -> None:
        if asked.places:
            self._witness = asked.parents[asked.places[-1]]
            self._from_start = max(self._from_start, asked.places[-1] + 1)
            self._from_end = max(self._from_end, len(asked.parents) - asked.places[0])

    async def _shows(self, asked: _Asked, doubtful: Sequence[int], *, is_last: bool) -> bool:
        """Whether the API reads as many keys, by a request with a parent that has children at its last, or first place.

        Raises:
            ListUnfinished: it does not.
        """
        known, empty = self._witness, {asked.parents[place].parent for place in doubtful}
        witness = known
        if witness is None and self._with_children is not None:
            witness = await self._with_children([next(iter(parent.keys.values())) for parent in asked.parents])
        if witness is None:
            return False
        others = [parent for parent in asked.parents if parent.parent != witness.parent]
        if len(others) == len(asked.parents):
            # As many as before: the API may take no more.
            others = others[1:] if is_last else others[:-1]
        again = [*others, witness] if is_last else [witness, *others]
        told = await self._list(again)
        if isinstance(told, MedallionError) or not _is_a_list(told[0]) or _is_ignored(told):
            return False
        answered = _Asked(again, _places(told))
        shown = {again[place].parent for place in answered.places}
        if shown & empty or (known is not None and witness.parent not in shown):
            raise self.reader.reads_fewer(len(asked.parents))
        if witness.parent not in shown:
            return False  # its children in raw are gone
        self._note(answered)
        return True

    async def _list(self, parents: Sequence[ParentRecord]) -> list[list[Page]] | MedallionError:
        """The pages of each parent; those of a list that is none, for all of them."""
        keys = [parent.requested[self._name] for parent in parents]
        if not self._group.repeated and any(self._group.separator in str(key) for key in keys):
            return self.reader.cannot_group("the key of a parent contains the separator")
        found = await list_or_refusal(self.reader, Start(), {self._name: Several.of(keys, self._group)})
        if isinstance(found, MedallionError):
            return found
        if not _is_a_list(found):
            # Of several, this says nothing of one of them: the caller divides them.
            return [found] if len(parents) == 1 else self.reader.cannot_group("it has no list")
        return self._apart(parents, found)

    def _apart(self, parents: Sequence[ParentRecord], pages: list[Page]) -> list[list[Page]] | MedallionError:
        """The records of the pages, by parent."""
        shares: Mapping[str | None, list[bytes]] = {
            self._key(str(parent.requested[self._name])): [] for parent in parents
        }
        for page in pages:
            for record in page.records:
                share = shares.get(self._key_of(record))
                if share is None:
                    return self.reader.cannot_group(
                        f"a record has at {self._group.by!r} none of the parents that were requested"
                    )
                share.append(record)
        last = pages[-1]
        received = sum(page.received_bytes for page in pages)
        found = [[replace(last, records=share, received_bytes=0, number=1, ignored=0)] for share in shares.values()]
        found[0] = [replace(found[0][0], received_bytes=received, ignored=last.ignored, moment=pages[0].moment)]
        return found

    def _key_of(self, record: bytes) -> str | None:
        try:
            value = Document(record).at(self._by)
            text = _TEXT.decode(value) if kind_of(value) == "text" else bytes(value[:100]).decode()
        except (Absent, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return self._key(text)

    def _key(self, text: str) -> str | None:
        """A key as one text, however it is written."""
        try:
            match self._kind:
                case "bigint":
                    return str(int(text))
                case "uuid":
                    return str(uuid.UUID(text))
        except ValueError:
            return None
        return text


def _is_a_list(pages: list[Page]) -> bool:
    return not pages[0].gone and not pages[-1].skipped


def _is_ignored(found: Sequence[list[Page]]) -> bool:
    """Whether some answer was ignored as declared: it shows nothing."""
    return any(page.ignored for page in found[0])


def _places(found: Sequence[list[Page]]) -> tuple[int, ...]:
    """The places of the parents that have children."""
    return tuple(place for place, pages in enumerate(found) if any(page.records for page in pages))
