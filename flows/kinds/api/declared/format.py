"""Forms of a body other than JSON. Whatever is packed by gzip or zip is unpacked, without being declared."""

import codecs
from dataclasses import dataclass

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class NdJson:
    """One JSON object per line (NDJSON, JSON Lines).

        NdJson()
        NdJson(count_header="X-Record-Count")

    `count_header` of the response has the number of records, which is compared. `member`: of a zip, the files to read.
    A line that is not JSON is quarantined; a last line that is cut is an error. `one_member`: see `Csv`.
    """

    count_header: str = ""
    member: str = "*"
    one_member: bool = False


@dataclass(frozen=True, slots=True)
class Csv:
    r"""Rows of text, with their names in the first row. A record is an object of texts.

        Csv()                                          RFC 4180
        Csv(delimiter="\t", quote="", encoding="cp1252")      tab-separated, where quotes are ordinary characters
        Csv(header=("day", "clicks"), null="")         no first row of names; an empty text is null
        Csv(count_header="Sforce-NumberOfRecords")     the response says how many records it has

    A row with another number of values than names is quarantined. The last line must end with a line break, which shows
    that it is complete; `final_newline=False` is for APIs that never write one. `one_member`: a gzip stream is always
    a single member, so that its end is that of the document, also if the connection is closed without saying so.
    """

    delimiter: str = ","
    quote: str = '"'
    header: tuple[str, ...] = ()
    encoding: str = "utf-8"
    null: str | None = None
    final_newline: bool = True
    count_header: str = ""
    member: str = "*"
    one_member: bool = False

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or len(self.quote) > 1 or self.delimiter in ("\n", "\r", self.quote):
            raise DeclarationError(
                "the delimiter is one character, and the quote one or none",
                where="format",
                fix='write Csv(delimiter=";"), or Csv(delimiter="\\t", quote="")',
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise DeclarationError(
                f"the encoding {self.encoding!r} is unknown", where="format", fix='write "utf-8" or "cp1252"'
            ) from None
        if len(set(self.header)) != len(self.header):
            raise DeclarationError("two columns have one name", where="format", fix="name each column once")


@dataclass(frozen=True, slots=True)
class Xml:
    """Elements of an XML document.

        Xml("Order")               each <Order>, wherever it is
        Xml("Orders.Order", lists=("Line",))

    A record is an object: child elements by name, attributes as `@name`, text next to them as `#text`; an element that
    occurs several times, or is named in `lists`, is a list. Document type declarations, and so entities, are refused.
    """

    record: str
    lists: tuple[str, ...] = ()
    member: str = "*"

    def __post_init__(self) -> None:
        if not all(self.record.split(".")):
            raise DeclarationError(
                "the elements of the records have no name", where="format", fix='write Xml("Orders.Order")'
            )


Format = NdJson | Csv | Xml
