"""XML: an element per record, as an object. Nothing outside of the document is ever read.

expat is fed piece by piece, so memory holds one record. Document type declarations are refused: they define entities,
by which a document grows without bound or includes files of this machine.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat  # nosec B406 - document type declarations are refused below

import msgspec

from flows.kinds.api.bodies.lines import MOST_BYTES
from flows.kinds.api.bodies.unpack import cut
from flows.kinds.api.declared.format import Xml
from flows.kinds.api.http.failure import AttemptFailed

_MOST_DEPTH = 200
# Roots by which services say that they failed, also with status 200.
_FAILURES = frozenset({"error", "errors", "errorresponse", "errormessage", "fault", "exception", "serviceexception"})
_encode = msgspec.json.Encoder().encode


class XmlRecords:
    """Builds the records' elements only."""

    def __init__(self, form: Xml) -> None:
        self._path = form.record.split(".")
        self._lists = frozenset(form.lists)
        self._names: list[str] = []
        self._open: list[tuple[dict[str, Any], list[str]]] = []
        self._records: list[bytes] = []
        self._size = 0
        self._refused = ""
        self.root = ""
        # Whether a record, or the element around the records, has been there: then the list is, even if it is empty.
        self.is_there = False
        parser = expat.ParserCreate(namespace_separator=None)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype
        self._parser = parser

    def feed(self, piece: bytes) -> list[bytes]:
        """The records that are complete now.

        Raises:
            AttemptFailed: the document is not well-formed, or has a document type declaration.
        """
        return self._parse(piece, final=False)

    def end(self) -> list[bytes]:
        """None: the last record ends before its document.

        Raises:
            AttemptFailed: the document is cut.
        """
        return self._parse(b"", final=True)

    def require_list(self) -> None:
        """Refuse a document that is another one than that of an empty list.

        Raises:
            AttemptFailed: it has no element around the records, or it reports a failure.
        """
        around = ".".join(self._path[:-1])
        if self.is_there or not (around or self.root.lower() in _FAILURES):
            return
        raise AttemptFailed(
            f"the document has no element {around!r}" if around else f"the document is an {self.root!r}",
            "open the response: it may be an error, which a later run does not meet; otherwise compare it with the "
            "declared Xml, or declare may_be_absent=True if the API omits an empty list",
            again=True,
        )

    def _parse(self, piece: bytes, *, final: bool) -> list[bytes]:
        problem = ""
        self._size = 0 if not self._open else self._size
        try:
            self._parser.Parse(piece, final)
        except expat.ExpatError as error:
            problem = f"line {error.lineno}"
        except _Refused:
            raise AttemptFailed(
                f"the document {self._refused}", "ask the operator of the API for plain XML, without entities"
            ) from None
        if problem:
            if final:
                raise cut(f"its elements are not closed ({problem})")
            raise AttemptFailed(
                f"the document is not well-formed XML ({problem})", "report it to the API's operator", again=True
            )
        records, self._records = self._records, []
        return records

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._names.append(name.rpartition(":")[2])
        self.root = self.root or self._names[0]
        around = self._path[:-1]
        self.is_there |= bool(around) and self._names[-len(around) :] == around
        if len(self._names) > _MOST_DEPTH:
            self._refuse("is nested too deeply")
        if self._open or self._names[-len(self._path) :] == self._path:
            self.is_there = True
            self._grown(sum(len(key) + len(value) for key, value in attributes.items()))
            self._open.append(({f"@{key}": value for key, value in attributes.items()}, []))

    def _end(self, _: str) -> None:
        name = self._names.pop()
        if not self._open:
            return
        fields, texts = self._open.pop()
        text = "".join(texts).strip()
        value: Any = fields
        if not fields:
            value = text or None
        elif text:
            fields["#text"] = text
        if not self._open:
            self._records.append(_encode(value if fields else {"#text": text or None}))
            self._size = 0
            return
        parent = self._open[-1][0]
        if name in parent:
            others = parent[name]
            if isinstance(others, list):
                others.append(value)
            else:
                parent[name] = [others, value]
        else:
            parent[name] = [value] if name in self._lists else value

    def _text(self, text: str) -> None:
        if self._open:
            self._grown(len(text))
            self._open[-1][1].append(text)

    def _grown(self, size: int) -> None:
        self._size += size + 1
        if self._size > MOST_BYTES:
            self._refuse(f"has a record of more than {MOST_BYTES >> 20} MB")

    def _doctype(self, *_: object) -> None:
        self._refuse("has a document type declaration")

    def _refuse(self, why: str) -> None:
        self._refused = why
        raise _Refused


class _Refused(Exception):
    """The document is not parsed any further."""
