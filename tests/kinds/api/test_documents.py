"""Bodies that are not JSON pages: NDJSON, CSV, XML, gzip, zip. A document that is cut is never taken for its end."""

import asyncio
import gzip
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from flows.kinds.api import (
    Api,
    Bearer,
    ChangeToken,
    Csv,
    Endpoint,
    Job,
    LinkHeader,
    NdJson,
    NextHeader,
    NoAuth,
    Offset,
    PageNumber,
    Parent,
    Partition,
    Since,
    SinglePage,
    When,
    Xml,
)
from flows.kinds.api.bodies import document
from flows.kinds.api.declared.format import Format
from flows.kinds.api.pages.endpoint import read_pages
from flows.kinds.api.pages.page import Page, Start
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError, PlaceLost, SourceError, SourceUnavailable
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import Answer, Request, chunked, head, json_page, raw, response, serve, status
from tests.kinds.api.loading import load
from tests.kinds.api.rest_reading import QUICK
from tests.kinds.loading import rows

CSV = b'id,name\r\n1,"Bolt, ""M8"""\r\n2,"two\nlines"\r\n3,\r\n'
NDJSON = b'{"id": 1, "n": 1.10}\n{"id": 2}\n{"id": 3}\n'
GZIP = "Content-Encoding: gzip"
XML = (
    b'<?xml version="1.0"?><r xmlns="urn:x"><a><o id="1"><l>x</l><l>y</l></o></a>'
    b'<o id="2">t &amp; u<l>z</l></o><o/></r>'
)
FORMS: dict[str, tuple[Format, bytes]] = {"csv": (Csv(), CSV), "ndjson": (NdJson(), NDJSON), "xml": (Xml("o"), XML)}


def zipped(**members: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(zipfile.ZipInfo(name.replace("_", ".")), content, zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def answer(body: bytes, *headers: str, kind: str = "application/octet-stream") -> Answer:
    return raw(response(200, body, *headers, content_type=kind))


def closed(body: bytes, *headers: str) -> Answer:
    """A body that only the end of the connection ends, as of a server of HTTP/1.0."""
    return raw(head("Connection: close", *headers, content_type="text/plain") + body, close=True)


async def read(
    form: Format, *answers: Answer, start: Start | None = None, limits: Any = QUICK, **options: Any
) -> list[Page]:
    """The pages of a list of documents."""
    endpoint = Endpoint("items", path="/items", format=form, **options)
    api = Api("files", connection="files", auth=NoAuth(), endpoints=[endpoint])
    async with serve(*answers) as server:
        pages = read_pages(api, endpoint, ApiConnection("files", server.url), start or Start(), limits=limits)
        return [page async for page in pages]


def records(pages: Sequence[Page]) -> list[Any]:
    return [json.loads(record) for page in pages for record in page.records]


async def test_a_csv_s_rows_are_objects_of_texts_as_they_were_written() -> None:
    assert records(await read(Csv(), answer(CSV, kind="text/csv; charset=utf-8"))) == [
        {"id": "1", "name": 'Bolt, "M8"'},
        {"id": "2", "name": "two\nlines"},
        {"id": "3", "name": ""},
    ]


async def test_lines_of_ndjson_keep_each_digit() -> None:
    pages = await read(NdJson(), answer(NDJSON, kind="application/x-ndjson"))
    assert pages[0].records == NDJSON.splitlines()
    assert pages[0].is_proven


async def test_elements_of_xml_are_objects_with_attributes_lists_and_text() -> None:
    assert records(await read(Xml("o", lists=("l",)), answer(XML, kind="application/xml"))) == [
        {"@id": "1", "l": ["x", "y"]},
        {"@id": "2", "l": ["z"], "#text": "t & u"},
        {"#text": None},
    ]
    assert len(records(await read(Xml("a.o"), answer(XML)))) == 1


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lambda body: zipped(rows_csv=body),
        lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:]),
        lambda body: zipped(__MACOSX=b"junk") and zipped(rows_csv=body, readme_txt=b"junk"),
    ],
    ids=["gzip", "zip", "members", "files"],
)
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("encoded", [False, True])
async def test_what_is_packed_is_unpacked(name: str, pack: Callable[[bytes], bytes], encoded: bool) -> None:
    form, plain = FORMS[name]
    body = pack(plain)
    packed = answer(gzip.compress(body), "Content-Encoding: gzip") if encoded else answer(body)
    form = replace(form, member="*.csv")
    assert records(await read(form, packed)) == records(await read(form, answer(plain)))


async def test_several_files_of_a_zip_have_their_own_names() -> None:
    body = zipped(a_csv=b"id\n1\n", b_csv=b"name,id\nx,2\n")
    assert records(await read(Csv(), answer(body))) == [{"id": "1"}, {"name": "x", "id": "2"}]


CUT: dict[str, tuple[Format, Answer]] = {
    "csv, in its last line": (Csv(), answer(CSV[:-3])),
    "csv, in a quote": (Csv(), answer(b'id,name\n1,"ab\n')),
    "csv, in a quote, where no final newline is written": (Csv(final_newline=False), answer(b'id,name\n1,"ab')),
    "csv, in its last row, where no final newline is written": (Csv(final_newline=False), answer(b"id,name\n1,a\n2")),
    "csv, in its names": (Csv(), answer(b"id,na")),
    "csv of nothing": (Csv(), answer(b"")),
    "csv with fewer records than its head says": (Csv(count_header="X-Count"), answer(b"id\n1\n", "X-Count: 2")),
    "csv that ends with the connection": (
        Csv(),
        raw(head("Connection: close", content_type="text/plain") + CSV, close=True),
    ),
    "csv shorter than announced": (
        Csv(),
        raw(head(f"Content-Length: {len(CSV) + 9}", content_type="text/plain") + CSV, close=True),
    ),
    "csv without its last chunk": (
        Csv(),
        raw(head("Transfer-Encoding: chunked", content_type="text/plain") + chunked(CSV, end=False), close=True),
    ),
    "ndjson, in its last line": (NdJson(), answer(NDJSON[:-4])),
    "ndjson, in its last line, which is a number": (NdJson(), answer(b'{"id": 1}\n12')),
    "ndjson that ends with the connection": (
        NdJson(),
        raw(head("Connection: close", content_type="text/plain") + NDJSON, close=True),
    ),
    "ndjson with fewer records than its head says": (
        NdJson(count_header="X-Count"),
        answer(NDJSON, "X-Count: 4"),
    ),
    "xml, in its last element": (Xml("o"), answer(XML[:-3])),
    "xml behind its last record": (Xml("o"), answer(XML[:-4])),
    "xml that ends with the connection, cut": (
        Xml("o"),
        raw(head("Connection: close", content_type="text/plain") + XML[:-9], close=True),
    ),
    "xml of nothing": (Xml("o"), answer(b"")),
    "gzip, in its checksum": (Csv(), answer(gzip.compress(CSV)[:-4])),
    "gzip, in the middle": (NdJson(), answer(gzip.compress(NDJSON)[:-20])),
    "gzip with a wrong checksum": (Csv(), answer(gzip.compress(CSV)[:-8] + b"\0" * 8)),
    "gzip, and what follows is none": (Csv(), answer(gzip.compress(CSV) + b"junk")),
    "gzip in gzip": (Csv(), answer(gzip.compress(gzip.compress(CSV)[:-4]), "Content-Encoding: gzip")),
    "gzip, between two members": (Csv(), closed(gzip.compress(CSV[:-4]) + gzip.compress(b""))),
    "gzip, between two members of the transfer": (NdJson(), closed(gzip.compress(NDJSON[:25]), GZIP)),
    "gzip, behind its only member, though it may have others": (Csv(), closed(gzip.compress(CSV))),
    "gzip, behind one of its members": (
        NdJson(one_member=True),
        closed(gzip.compress(NDJSON[:25]) + gzip.compress(NDJSON[25:50])),
    ),
    "gzip between two members of a count": (
        NdJson(count_header="X-Count"),
        closed(gzip.compress(NDJSON[:25]), "X-Count: 3"),
    ),
    "zip without its directory": (Csv(), answer(zipped(a_csv=CSV)[:-30])),
    "zip with damaged contents": (
        Csv(),
        answer(zipped(a_csv=CSV).replace(zipped(a_csv=CSV)[45:55], b"\0" * 10, 1)),
    ),
}


PROVEN: dict[str, tuple[Format, Answer]] = {
    "a single gzip member, as declared": (Csv(one_member=True), closed(gzip.compress(CSV))),
    "a single gzip member of the transfer": (NdJson(one_member=True), closed(gzip.compress(NDJSON), GZIP)),
    "one in a transfer of several": (
        Csv(one_member=True),
        closed(gzip.compress(gzip.compress(CSV)[:30]) + gzip.compress(gzip.compress(CSV)[30:]), GZIP),
    ),
    "a count, of gzip": (Csv(count_header="X-Count"), closed(gzip.compress(CSV), "X-Count: 3")),
    "a count": (NdJson(count_header="X-Count"), closed(NDJSON, "X-Count: 3")),
    "a zip": (Csv(), closed(zipped(a_csv=CSV))),
    "a zip in a transfer by gzip": (Csv(), closed(gzip.compress(zipped(a_csv=CSV)), GZIP)),
    "the root of an XML": (Xml("o"), closed(gzip.compress(XML))),
    "a length": (Csv(), answer(gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]))),
}


@pytest.mark.parametrize("with_rule", [False, True], ids=["", "looked at"])
@pytest.mark.parametrize("name", PROVEN)
async def test_a_document_without_a_length_may_show_its_end_otherwise(name: str, with_rule: bool) -> None:
    """Also one that has been looked at before, since a rule asks for a text in it."""
    form, sent = PROVEN[name]
    rules = (When(text="not ready", then="retry"),) if with_rule else ()
    pages = await read(form, sent, answers=rules)
    assert (len(records(pages)), pages[-1].is_proven) == (3, True)


@pytest.mark.parametrize("name", CUT)
async def test_a_cut_document_that_a_rule_looks_at_is_an_error(name: str) -> None:
    form, broken = CUT[name]
    with pytest.raises(SourceUnavailable):
        await read(form, broken, broken, broken, answers=(When(text="not ready", then="retry"),))


LARGE = b"id,name\n" + b"".join(b"%d,%s\n" % (n, b"x" * 990) for n in range(3000))


@pytest.mark.parametrize("form", ["chunked", "length", "packed", "closed"])
async def test_a_rule_looks_at_the_beginning_of_a_document_of_any_size(form: str) -> None:
    """It is larger than any page may be. The text that is looked for is a message, and not somewhere in the data."""
    rules = (
        When(text="not ready", then="retry"),
        When(body="error", then="fail"),
        When(text="2999,", then="fail", fix="it is in the data"),
    )
    sent = {
        "chunked": raw(head("Transfer-Encoding: chunked", content_type="text/csv") + chunked(LARGE)),
        "length": answer(LARGE),
        "packed": answer(gzip.compress(LARGE, 0), GZIP),
        "closed": closed(LARGE, "X-Count: 3000"),
    }[form]
    limits = replace(QUICK, max_body_bytes=1 << 21)
    message = answer(b"the report is not ready", kind="text/plain")
    pages = await read(
        Csv(count_header="X-Count" if form == "closed" else ""), message, sent, answers=rules, limits=limits
    )
    assert (sum(len(page.records) for page in pages), pages[-1].is_proven) == (3000, True)


@pytest.mark.parametrize("encoded", [False, True])
async def test_a_large_document_that_says_what_is_declared_is_that(encoded: bool) -> None:
    body = b"not ready: come again\n" + LARGE
    sent = answer(gzip.compress(body, 0), GZIP) if encoded else answer(body)
    rules = (When(text="not ready", then="fail", fix="ask for it later"),)
    with pytest.raises(SourceError) as failed:
        await read(Csv(), sent, answers=rules, limits=replace(QUICK, max_body_bytes=1 << 21))
    assert failed.value.fix == "ask for it later"


async def test_a_large_document_that_ends_the_list_is_read_to_its_end() -> None:
    rules = (When(text="id,name", then="end"),)
    pages = await read(Csv(), answer(LARGE), answers=rules, limits=replace(QUICK, max_body_bytes=1 << 21))
    assert (sum(len(page.records) for page in pages), pages[-1].is_proven) == (3000, True)


@pytest.mark.parametrize("cut", [answer(LARGE[:-5]), answer(gzip.compress(LARGE, 0)[:-5], GZIP), closed(LARGE)])
async def test_a_large_document_that_is_cut_is_an_error_though_a_rule_has_looked_at_it(cut: Answer) -> None:
    with pytest.raises(SourceUnavailable):
        await read(Csv(), cut, cut, cut, answers=(When(text="not ready", then="retry"),))


async def test_an_unproven_gzip_says_what_to_declare() -> None:
    with pytest.raises(SourceUnavailable) as refused:
        await read(Csv(), *[closed(gzip.compress(CSV))] * 3)
    assert "declare Csv(one_member=True), or count_header=" in refused.value.fix
    with pytest.raises(SourceUnavailable) as refused:
        await read(NdJson(), *[closed(gzip.compress(NDJSON[:25]) + gzip.compress(NDJSON[25:]))] * 3)
    assert "one_member" not in refused.value.fix


@pytest.mark.parametrize("name", CUT)
async def test_a_document_that_is_cut_is_requested_again(name: str) -> None:
    form, broken = CUT[name]
    good = {Csv: CSV, NdJson: NDJSON, Xml: XML}[type(form)]
    whole = answer(good, f"X-Count: {3}")
    assert len(records(await read(form, broken, whole))) == 3


@pytest.mark.parametrize("name", CUT)
async def test_a_document_that_stays_cut_is_an_error_and_its_last_piece_is_never_given_out(name: str) -> None:
    form, broken = CUT[name]
    with pytest.raises(SourceUnavailable):
        await read(form, broken, broken, broken)


@pytest.mark.parametrize(
    ("form", "body", "kind"),
    [
        (Csv(), b"<html>maintenance</html>", "text/html"),
        (Csv(), b'{"error": "not ready"}', "application/json"),
        (Xml("o"), b'{"error": "not ready"}', "application/problem+json"),
        (NdJson(), b"<html>", "text/html; charset=utf-8"),
        (Csv(), b"id,id\n1,2\n", "text/csv"),
        (Csv(), b"id,\n1,2\n", "text/csv"),
        (Csv(), b"a\r1\r2\r\n", "text/csv"),
        (Csv(encoding="utf-16"), b"id\n1\n\n", "text/csv"),
        (Xml("o"), b"<r><o></r>", "text/xml"),
        (Csv(member="*.tsv"), zipped(a_csv=CSV), "application/zip"),
        (Csv(count_header="X-Count"), CSV, "text/csv"),
    ],
    ids=range(11),
)
async def test_what_is_not_what_is_declared_is_an_error(form: Format, body: bytes, kind: str) -> None:
    with pytest.raises(SourceError):
        await read(form, *[answer(body, kind=kind)] * 3)


ENTITIES = [
    b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]><r><o>&x;</o></r>',
    b'<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd"><r><o>1</o></r>',
    b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><r><o>&b;</o></r>',
    b"<r>" + b"<d>" * 300 + b"</d>" * 300 + b"</r>",
]


@pytest.mark.parametrize("body", ENTITIES)
async def test_entities_and_bottomless_nesting_are_refused(body: bytes) -> None:
    with pytest.raises(SourceError, match=r"document type|nested"):
        await read(Xml("o"), answer(body, kind="application/xml"))


#: Packed when a test asks for it: each process that runs tests imports this module, and packing takes 0.1 s of a core.
BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip in gzip": lambda text: gzip.compress(gzip.compress(text)),
    "zip": lambda text: zipped(a_csv=text),
}


@pytest.mark.parametrize("packed", BOMBS)
async def test_a_bomb_is_refused_while_it_is_unpacked(packed: str) -> None:
    """16 MB from 16 KB: 1,000 times, where text packs to a tenth. Of long rows, since short ones take long."""
    bomb = BOMBS[packed](b"id\n" + (b"1" * 999 + b"\n") * 16_000)
    encoded = bomb.startswith(b"\x1f") and len(bomb) < 2000
    body = answer(bomb, "Content-Encoding: gzip") if encoded else answer(bomb)
    with pytest.raises(SourceError, match="larger than"):
        await read(Csv(), body)


async def test_a_large_document_takes_little_memory() -> None:
    """60 MB of rows, and a page's worth of them in memory: three times the limit of a page of JSON."""
    row = b"%d," + b"x" * 50 + b"\n"
    body = gzip.compress(b"id,text\n" + b"".join(row % number for number in range(200_000)), 1)
    endpoint = Endpoint("items", path="/items", format=Csv())
    api = Api("files", connection="files", endpoints=[endpoint])
    async with serve(answer(body)) as server:
        tracemalloc.start()
        count = 0
        async for page in read_pages(api, endpoint, ApiConnection("files", server.url), limits=QUICK):
            count += len(page.records)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 12 << 20


@pytest.mark.parametrize("name", FORMS)
async def test_a_later_run_goes_on_inside_of_the_same_document(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_PIECE_RECORDS", 1)
    form, body = FORMS[name]
    pages = await read(form, answer(body))
    assert [len(page.records) for page in pages] == [1, 1, 1]
    for after in range(2):
        rest = await read(form, answer(body), start=Start(place=pages[after].place))
        assert records(rest) == records(pages[after + 1 :])
    assert pages[-1].place is None


async def test_inside_of_another_document_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_PIECE_RECORDS", 1)
    pages = await read(NdJson(), answer(NDJSON))
    for other in (NDJSON.replace(b"1.10", b"1.20"), NDJSON[:10] + b"}\n", b""):
        with pytest.raises(PlaceLost):
            await read(NdJson(), answer(other), start=Start(place=pages[1].place))


async def test_a_document_cut_in_the_middle_is_read_on_and_nothing_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_PIECE_RECORDS", 1)
    assert records(await read(NdJson(), answer(NDJSON[:-4]), answer(NDJSON))) == [
        json.loads(line) for line in NDJSON.splitlines()
    ]


async def test_bytes_that_are_no_text_and_rows_of_another_length_are_matters_of_single_records() -> None:
    body = b'id,name\n1,ok\n2,\xff\xfe\n3\n4,a,b\n\n5,"\x00"\n6,ok\n'
    [page] = await read(Csv(), answer(body))
    assert page.records == [
        b'{"id":"1","name":"ok"}',
        b'{"id": "2", "name": "\xff\xfe"}',  # as it was sent: the row checks quarantine it
        b'"3"',
        b'"4,a,b"',
        b'{"id":"5","name":"\\u0000"}',
        b'{"id":"6","name":"ok"}',
    ]


async def test_a_line_that_is_not_json_is_a_matter_of_its_own() -> None:
    body = b'{"id": 1}\nnonsense\n{"id": 2}, {"id": 3}\n{"a": "\\ud800"}\n{"id": NaN}\n\n{"id": 4}'
    [page] = await read(NdJson(), answer(body))
    assert page.records == [
        b'{"id": 1}',
        b'"nonsense"',
        b'"{\\"id\\": 2}, {\\"id\\": 3}"',
        b'{"a": "\\ud800"}',
        b'"{\\"id\\": NaN}"',
        b'{"id": 4}',
    ]


async def test_tabs_quotes_encodings_names_and_nulls_are_declared() -> None:
    body = 'a"b\tk\u00f6ln\n\tx\n'.encode("cp1252")
    form = Csv(delimiter="\t", quote="", encoding="cp1252", header=("n", "city"), null="")
    assert records(await read(form, answer(body))) == [{"n": 'a"b', "city": "köln"}, {"n": None, "city": "x"}]
    assert records(await read(Csv(), answer(b"\xef\xbb\xbfid\n1\n"))) == [{"id": "1"}]
    assert records(await read(Csv(encoding="utf-16"), answer("id\n1\n".encode("utf-16")))) == [{"id": "1"}]
    assert records(await read(Csv(final_newline=False), answer(b"id,x\n1,2"))) == [{"id": "1", "x": "2"}]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19])
@pytest.mark.parametrize("name", FORMS)
async def test_it_does_not_matter_where_pieces_of_a_document_end(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, body = FORMS[name]
    expected = records(await read(form, answer(body)))
    monkeypatch.setattr("flows.kinds.api.bodies.unpack.BLOCK", size)
    for sent in (answer(body), answer(gzip.compress(body))):
        assert records(await read(form, sent)) == expected


async def test_documents_are_paged_by_headers_links_numbers_and_offsets() -> None:
    two = [answer(b"id\n1\n2\n", "X-Next: b"), answer(b"id\n3\n")]
    pages = await read(Csv(), *two, pagination=NextHeader("X-Next", parameter="after"))
    assert [record["id"] for record in records(pages)] == ["1", "2", "3"]
    links = [answer(b"id\n1\n", 'Link: </items?p=2>; rel="next"'), answer(b"id\n2\n")]
    assert len(records(await read(Csv(), *links, pagination=LinkHeader()))) == 2
    numbered = [answer(b"id\n1\n"), answer(b"id\n2\n"), answer(b"id\n")]
    assert len(records(await read(Csv(), *numbered, pagination=PageNumber()))) == 2
    offset = [answer(b"id\n1\n2\n"), answer(b"id\n2\n3\n"), answer(b"id\n3\n")]
    assert len(records(await read(Csv(), *offset, pagination=Offset()))) == 3


async def test_a_literal_text_in_a_header_may_be_the_end() -> None:
    """Salesforce writes `Sforce-Locator: null` on the last page."""
    two = [answer(b"id\n1\n", "Sforce-Locator: MTAw"), answer(b"id\n2\n", "Sforce-Locator: null")]
    pages = await read(Csv(), *two, pagination=NextHeader("Sforce-Locator", parameter="locator", last="null"))
    assert len(records(pages)) == 2
    assert pages[-1].is_proven


@pytest.mark.parametrize(
    ("shape", "body", "expected"),
    [
        ("object", b'{"data": {"id": 1, "n": 1.0}}', [b'{"id": 1, "n": 1.0}']),
        ("objects_by_id", b'{"data": {"a b": {"n": 1.0}, "c": {}}}', [b'{"_key":"a b","n": 1.0}', b'{"_key":"c"}']),
        ("objects_by_id", b'{"data": {}}', []),
    ],
)
async def test_one_object_and_objects_by_id_are_records(shape: Any, body: bytes, expected: list[bytes]) -> None:
    endpoint = Endpoint("items", path="/items", records_as=shape)
    api = Api("files", connection="files", endpoints=[endpoint])
    async with serve(raw(response(200, body))) as server:
        pages = [page async for page in read_pages(api, endpoint, ApiConnection("files", server.url), limits=QUICK)]
    assert pages[0].records == expected


@pytest.mark.parametrize("body", [b'{"data": [1]}', b'{"data": {"a": 1}}'])
async def test_objects_that_are_none_are_an_error(body: bytes) -> None:
    endpoint = Endpoint("items", path="/items", records_as="objects_by_id")
    api = Api("files", connection="files", endpoints=[endpoint])
    async with serve(raw(response(200, body))) as server:
        with pytest.raises(SourceError, match="declared shape"):
            async for _ in read_pages(api, endpoint, ApiConnection("files", server.url), limits=QUICK):
                pass


async def test_a_form_is_sent_and_parameters_are_its_fields() -> None:
    endpoint = Endpoint(
        "items",
        path="/search",
        body={"kind": "a b", "tag": ["x", "y"]},
        form=True,
        page_size=5,
        pagination=PageNumber(),
    )
    api = Api("files", connection="files", endpoints=[endpoint])
    async with serve(json_page([1]), json_page([])) as server:
        async for _ in read_pages(api, endpoint, ApiConnection("files", server.url), limits=QUICK):
            pass
    first, second = server.requests
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (first.method, first.body) == ("POST", b"kind=a+b&tag=x&tag=y&limit=5&page=1")
    assert second.body == b"kind=a+b&tag=x&tag=y&limit=5&page=2"


async def test_a_redirect_to_a_declared_store_is_followed_without_credentials(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Endpoint("items", path="/items", format=Csv(), headers=(("X-Own", "canary"),))
    async with serve(answer(CSV)) as store:
        address = f"{store.url}/bucket/file?X-Amz-Signature=canary"
        async with serve(status(302, f"Location: {address}")) as server:
            host = store.url.removeprefix("http://")
            api = Api("files", connection="files", auth=Bearer(), headers=(("X-Tenant", "canary"),),
                      stores=(host,), endpoints=[endpoint])  # fmt: skip
            with caplog.at_level("DEBUG", logger="httpx"), caplog.at_level("DEBUG", logger="httpcore"):
                pages = [p async for p in read_pages(api, endpoint, ApiConnection("files", server.url, "canary-key"),
                                                     limits=QUICK)]  # fmt: skip
    assert len(records(pages)) == 3
    assert store.requests[0].query == {"X-Amz-Signature": "canary"}
    assert "canary" not in str(store.requests[0].headers)
    assert "canary" not in caplog.text
    assert "receive_response_headers.complete" in caplog.text, "the events are still there"


@pytest.mark.parametrize("stores", [(), ("files.example.com",)])
async def test_a_redirect_to_any_other_host_is_not_followed(stores: tuple[str, ...]) -> None:
    endpoint = Endpoint("items", path="/items", format=Csv())
    async with serve() as other, serve(status(302, f"Location: {other.url}/x?sig=canary")) as server:
        api = Api("files", connection="files", auth=Bearer(), stores=stores, endpoints=[endpoint])
        with pytest.raises(SourceError) as caught:
            async for _ in read_pages(api, endpoint, ApiConnection("files", server.url, "canary-key"), limits=QUICK):
                pass
    assert other.requests == []
    assert "canary" not in str(caught.value)


async def test_a_presigned_url_that_has_expired_is_requested_again_and_is_in_no_error() -> None:
    endpoint = Endpoint("items", path="/items", format=Csv())
    async with serve(status(403), status(403), status(403)) as store:
        away = status(302, f"Location: {store.url}/b?sig=canary")
        async with serve(away, away, away) as server:
            api = Api("files", connection="files", stores=(store.url.removeprefix("http://"),), endpoints=[endpoint])
            with pytest.raises(SourceUnavailable, match="its URL is not valid") as caught:
                async for _ in read_pages(api, endpoint, ApiConnection("files", server.url), limits=QUICK):
                    pass
    assert "canary" not in str(caught.value)


WRONG: list[Callable[[], object]] = [
    lambda: Csv(delimiter=""),
    lambda: Csv(delimiter='"'),
    lambda: Csv(encoding="klingon"),
    lambda: Csv(header=("a", "a")),
    lambda: Xml(""),
    lambda: Xml("a..b"),
    lambda: Endpoint("x", path="/x", format=Csv(), total="total"),
    lambda: Endpoint("x", path="/x", format=Csv(), only="a=b"),
    lambda: Endpoint("x", path="/x", format=Csv(), etag=True),
    lambda: Endpoint("x", path="/x", format=Csv(), records_as="object"),
    lambda: Endpoint("x", path="/x", format=Csv(), cursor=ChangeToken("a", at="b")),
    lambda: Endpoint("x", path="/x", format=Csv(), cursor=Since("s", field="f"), pagination=PageNumber()),
    lambda: Endpoint("x", path="/x", form=True),
    lambda: Job("/a", poll="/b", done=("x",)),
    lambda: Job("/a", poll="/b/{job}", done=()),
    lambda: Job("/a", poll="/b/{job}", done=("x",), failed=("x",)),
    lambda: Job("a", poll="/b/{job}", done=("x",)),
    lambda: Job("/a", poll="/b/{job}", done=("x",), body={"q": "{since}"}),
    lambda: Job("/a", poll="/b/{job}", done=("x",), starts=0),
    lambda: Endpoint("x", path="/x/{result}", job=Job("/a", poll="/b/{job}", done=("x",))),
    lambda: Endpoint("x", path="/x", job=Job("/a", poll="/b/{job}", done=("x",), download="url")),
    lambda: Endpoint("x", path="/x", total="n", job=Job("/a", poll="/b/{job}", done=("x",))),
    lambda: Endpoint("x", path="/{id}", parent=Parent("y", "y"), job=Job("/a", poll="/b/{job}", done=("x",))),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_declaration_that_contradicts_itself_is_refused_at_import(wrong: Callable[[], object]) -> None:
    with pytest.raises(DeclarationError):
        wrong()


@pytest.mark.parametrize("then", ["skip", "end", "ignore"])
async def test_what_is_declared_of_the_api_s_answers_is_not_said_of_a_store_s(then: Any) -> None:
    endpoint = Endpoint("items", path="/x/{r}", key=("r", "id"), format=Csv(), partitions=(Partition("r", ("eu",)),),
                        answers=(When(status=(403, 503), then=then),))  # fmt: skip
    async with serve(status(403), status(503), answer(CSV)) as store:
        host = store.url.removeprefix("http://")
        async with serve(forever=status(302, f"Location: {store.url}/b?sig=canary")) as server:
            api = Api("files", connection="files", stores=(host,), auth=NoAuth(), endpoints=[endpoint])
            pages = [page async for page in read_pages(api, endpoint, ApiConnection("files", server.url), limits=QUICK)]
    assert len(records(pages)) == 3


@pytest.mark.parametrize("code", [403, 404])
async def test_a_store_s_refusal_does_not_say_that_a_parent_has_no_children(code: int, warehouse: TestDatabase) -> None:
    parent = Parent("orders", column="order_id", type="bigint", every=True)
    orders = Endpoint("orders", path="/orders", key_type="bigint", pagination=SinglePage())
    kids = Endpoint("kids", path="/orders/{id}/k", key=("order_id", "id"), key_type="bigint", format=Csv(),
                    parent=parent, answers=(When(status=403, then="end"),))  # fmt: skip
    async with serve(answer(CSV), forever=status(code)) as store:

        async def first(request: Request, writer: asyncio.StreamWriter) -> None:
            away = status(302, f"Location: {store.url}/f?sig=canary")
            await (json_page([{"id": 1}]) if request.path == "/orders" else away)(request, writer)

        async with serve(forever=first) as server:
            host = store.url.removeprefix("http://")
            api = Api("lists", connection="lists", endpoints=[orders, kids], stores=(host,))
            await load(warehouse, server.url, "orders", api)
            await load(warehouse, server.url, "kids", api, limits=QUICK)
            warning = (await load(warehouse, server.url, "kids", api, limits=QUICK)).warning
    assert f"HTTP {code} for 1" in str(warning)
    assert len(rows(warehouse, "select from raw_lists.kids where _deleted_at is null")) == 3


async def test_a_text_that_begins_like_a_zip_is_none_and_its_end_must_be_shown() -> None:
    unmarked = raw(head("Connection: close", content_type="text/csv"), b"PK,id\n1,a\n2,b\n", close=True)
    with pytest.raises(SourceUnavailable, match="nothing says that this is its end"):
        await read(Csv(), unmarked, unmarked, unmarked)
