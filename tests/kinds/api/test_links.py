"""The Link header, as RFC 8288 writes it and as servers do."""

import string

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.link_header import Link, MalformedLink, linked_page, origin, parse_links

PAGE = httpx.URL("https://api.example.com/v1/orders?limit=2")


@pytest.mark.parametrize(
    ("header", "links"),
    [
        ("", []),
        (" , ,", []),
        ('</a>; rel="next"', [Link("/a", ("next",))]),
        ("</a>;rel=next", [Link("/a", ("next",))]),
        ("</a> ; REL = NEXT", [Link("/a", ("next",))]),
        ('</a>; rel="prev next"', [Link("/a", ("prev", "next"))]),
        ('</a>; rel="first"; rel="next"', [Link("/a", ("first",))]),
        ("</a>", [Link("/a", ())]),
        ("</a>;", [Link("/a", ())]),
        ("</a>; rel", [Link("/a", ())]),
        ('</a,b;c>; title="x, <y>; rel=\\"next\\""; rel=last', [Link("/a,b;c", ("last",))]),
        ('</a>; rel=next, </b>; rel="last",</c>', [Link("/a", ("next",)), Link("/b", ("last",)), Link("/c", ())]),
        ("</a>; rel=next; title*=UTF-8'de'n%c3%a4chste", [Link("/a", ("next",))]),
        ('</a>; anchor="#x"; rel=next', [Link("/a", ("next",), "#x")]),
        ("<>; rel=next", [Link("", ("next",))]),
    ],
)
def test_links_are_read_as_the_standard_says(header: str, links: list[Link]) -> None:
    assert parse_links(header) == links


@pytest.mark.parametrize("header", ["/a; rel=next", "</a", '</a>; rel="next', '</a>; rel="next\\', "</a> </b>", "x"])
def test_half_a_link_is_an_error(header: str) -> None:
    with pytest.raises(MalformedLink):
        parse_links(header)


_targets = st.text(alphabet=string.ascii_letters + string.digits + "/?&=%;,:.-_~+", max_size=30)
_relations = st.lists(st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=8), max_size=3)
_titles = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


def _written(target: str, relations: list[str], title: str, space: str) -> str:
    quoted = title.replace("\\", "\\\\").replace('"', '\\"')
    return f'<{target}>{space};{space}title{space}={space}"{quoted}";{space}rel="{" ".join(relations)}"'


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_targets, _relations, _titles, st.sampled_from(["", " ", "\t "])), max_size=4))
def test_whatever_is_written_by_the_rules_is_read_back(links: list[tuple[str, list[str], str, str]]) -> None:
    header = " , ".join(_written(*link) for link in links)
    assert parse_links(header) == [Link(target, tuple(relations)) for target, relations, _, _ in links]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='<>;,="\\ \trelnxt/?#:@[]%\x00é', max_size=40))
def test_any_header_either_gives_a_page_of_our_origin_or_none_or_a_failure(header: str) -> None:
    """No header raises anything unexpected, and none leads away."""
    try:
        url = linked_page("next", [header], PAGE, PAGE)
    except AttemptFailed:
        return
    assert url is None or origin(url) == origin(PAGE)


@pytest.mark.parametrize(
    ("target", "resolved"),
    [
        ("?after=b", "https://api.example.com/v1/orders?after=b"),
        ("orders/2", "https://api.example.com/v1/orders/2"),
        ("/v2", "https://api.example.com/v2"),
        ("//api.example.com/v3", "https://api.example.com/v3"),
        ("HTTPS://API.example.com:443/v4#part", "https://api.example.com/v4"),
        ("../x", "https://api.example.com/x"),
    ],
)
def test_a_target_is_resolved_against_the_page_that_named_it(target: str, resolved: str) -> None:
    assert linked_page("next", [f"<{target}>; rel=next"], PAGE, PAGE) == httpx.URL(resolved)


@pytest.mark.parametrize(
    "target",
    [
        "http://api.example.com/v1",
        "https://api.example.com:8443/v1",
        "https://api.example.com.evil.net/v1",
        "https://evil.net/api.example.com",
        "//evil.net/v1",
        "https://api.example.com@evil.net/v1",
        "https://evil.net\\@api.example.com/",
        "https://me@api.example.com/v1",
        "javascript:alert(1)",
        "file:///etc/passwd",
    ],
)
def test_a_target_of_another_origin_is_refused(target: str) -> None:
    with pytest.raises(AttemptFailed, match=r"credentials are not sent|not a URL"):
        linked_page("next", [f"<{target}>; rel=next"], PAGE, PAGE)


def test_the_relation_may_stand_in_any_of_several_headers() -> None:
    headers = ['</v1/orders?p=1>; rel="first"', '</v1/orders?p=3>; rel="NEXT"', '</v1/orders?p=9>; rel="last"']
    assert linked_page("next", headers, PAGE, PAGE) == httpx.URL("https://api.example.com/v1/orders?p=3")


def test_the_same_next_page_twice_is_one() -> None:
    headers = ["</v1/orders?p=2>; rel=next", "<?p=2#x>; rel=next"]
    assert linked_page("next", headers, PAGE, PAGE) == httpx.URL("https://api.example.com/v1/orders?p=2")


def test_a_link_about_another_document_is_passed_over() -> None:
    assert linked_page("next", ['</x>; rel=next; anchor="/elsewhere"'], PAGE, PAGE) is None
    assert linked_page("next", ['</x>; rel=next; anchor=""'], PAGE, PAGE) == httpx.URL("https://api.example.com/x")


def test_another_relation_can_be_declared() -> None:
    header = ["</v1/orders?p=2>; rel=next, </v1/orders?p=3>; rel=following"]
    assert linked_page("following", header, PAGE, PAGE) == PAGE.copy_with(query=b"p=3")
