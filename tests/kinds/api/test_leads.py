"""Where an API leads us: to the next page, in circles, or to strangers."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flows.kinds.api.http.auth import open_client
from flows.values.errors import ConfigurationError, SourceError
from tests.kinds.api.certificates import own_certificate, serving
from tests.kinds.api.http_servers import Answer, Request, json_page, serve, status
from tests.kinds.api.rest_reading import KEY, QUICK, api, connection, read, values


@pytest.mark.parametrize(
    "link",
    [
        "http://STRANGER/v1/items",
        "//STRANGER/v1/items",
        "http://user:hidden@HOME/v1/items",
        "https://HOME/x",
        "ftp://HOME/",
    ],
)
async def test_a_next_link_to_another_origin_is_refused_and_never_asked(link: str) -> None:
    """A port, a scheme or a user of its own is enough to be another origin."""
    page: list[Answer] = []

    async def linked(request: Request, writer: asyncio.StreamWriter) -> None:
        await page[0](request, writer)

    async with serve() as stranger, serve(linked) as home:
        for place, server in (("STRANGER", stranger), ("HOME", home)):
            link = link.replace(place, server.url.removeprefix("http://"))
        page.append(json_page([1], following=link))
        with pytest.raises(SourceError, match="credentials are not sent to another origin") as refusal:
            await read(home.url)
    assert "hidden" not in str(refusal.value)
    assert (len(home.requests), stranger.requests) == (1, [])


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_is_refused_and_never_asked(code: int) -> None:
    async with serve() as stranger, serve(status(code, f"Location: {stranger.url}/v1/items?secret=1")) as home:
        with pytest.raises(SourceError, match=f"the redirect \\({code}\\) from GET /v1/items leads to") as refusal:
            await read(home.url)
        assert "secret" not in str(refusal.value)
    assert stranger.requests == []


async def test_a_redirect_within_the_origin_is_followed_and_links_count_from_there() -> None:
    async with serve(status(307, "Location: /v2/items/"), json_page([1], following="page2"), json_page([2])) as server:
        assert values(await read(server.url)) == [1, 2]
    assert server.targets == ["/v1/items", "/v2/items/", "/v2/items/page2"]


async def test_redirects_in_circles_end() -> None:
    async with serve(forever=status(302, "Location: /v1/items")) as server:
        with pytest.raises(SourceError, match="more than 5 redirects"):
            await read(server.url)
    assert len(server.requests) == 6


@pytest.mark.parametrize("code", [302, 304, 300])
async def test_a_redirect_without_an_address_is_an_error(code: int) -> None:
    async with serve(status(code)) as server:
        with pytest.raises(SourceError, match=f"{code} from GET /v1/items"):
            await read(server.url)


async def test_a_redirect_to_something_that_is_no_address_is_an_error() -> None:
    async with serve(forever=status(302, "Location: http://[::1")) as server:
        with pytest.raises(SourceError, match="GET /v1/items"):
            await read(server.url)


@pytest.mark.parametrize("link", ["", "/v1/items", "#top", "/v1/items?"])
async def test_a_next_link_to_the_same_page_is_a_circle(link: str) -> None:
    async with serve(json_page([1], following=link)) as server:
        with pytest.raises(SourceError, match="points to a page already read"):
            await read(server.url)


async def test_a_circle_of_several_pages_is_found() -> None:
    async with serve(
        json_page([1], following="?p=2"), json_page([2], following="?p=3"), json_page([3], following="?p=2")
    ) as server:
        with pytest.raises(SourceError, match=r"\(page 3\): the link to the next page points to"):
            await read(server.url)


@pytest.mark.parametrize("records", [[], [1, 2]], ids=["empty pages", "the same page"])
async def test_a_list_that_never_gets_on_is_ended(records: list[int]) -> None:
    """A server that ignores the page parameter of its own links would be read for ever."""
    pages = [json_page(records, following=f"?p={number}") for number in range(8)]
    async with serve(*pages) as server:
        with pytest.raises(SourceError, match="had no new record"):
            await read(server.url, limits=replace(QUICK, max_idle_pages=4))
    assert len(server.requests) <= 5


async def test_a_few_empty_pages_on_the_way_are_normal() -> None:
    async with serve(
        json_page([], following="?p=2"),
        json_page([], following="?p=3"),
        json_page([1], following="?p=4"),
        json_page([]),
    ) as server:
        assert values(await read(server.url, limits=replace(QUICK, max_idle_pages=3))) == [1]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ('Link: </v1/items?p=2; rel="next"', "never closed"),
        ('Link: /v1/items?p=2; rel="next"', "must start with <"),
        ('Link: <http://[::1/x>; rel="next"', "not a URL"),
        ("Link: </a>; rel=next, </b>; rel=next", "2 different pages"),
    ],
)
async def test_a_link_header_that_cannot_be_read_is_not_the_end_of_the_list(header: str, says: str) -> None:
    async with serve(json_page([1], header)) as server:
        with pytest.raises(SourceError, match=says):
            await read(server.url)


@pytest.fixture
def stranger_context(tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate that no authority vouches for."""
    return serving(own_certificate(tmp_path))


async def test_an_untrusted_certificate_is_a_matter_of_configuration_and_gets_no_key(
    stranger_context: ssl.SSLContext,
) -> None:
    """It will not be trusted a minute later either, so it is not tried again."""
    async with serve(json_page([1]), tls=stranger_context) as server:
        with pytest.raises(ConfigurationError, match=r"certificate .* is not trusted; .* SSL_CERT_FILE"):
            await read(server.url)
    assert server.requests == []


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(json_page([1])) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
        monkeypatch.setenv("no_proxy", "")
        assert values(await read("http://api.example.test:8080")) == [1]
    assert proxy.targets == ["http://api.example.test:8080/v1/items"]


async def test_loopback_is_never_asked_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop behind a company's proxy often has no NO_PROXY, and the embedded API must answer there too."""
    async with serve() as proxy, serve(json_page([1])) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert values(await read(server.url)) == [1]
    assert proxy.requests == []


async def test_a_proxy_that_cannot_be_used_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"gopher://me:{KEY}@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConfigurationError, match="HTTP_PROXY") as refusal:
        await read("http://api.example.test")
    assert KEY not in str(refusal.value)
    assert refusal.value.__context__ is None


async def test_the_credential_transport_itself_sends_nothing_to_a_stranger() -> None:
    """The last line of defence: it holds even if a later change above it follows whatever it is told."""
    async with serve() as stranger:
        client = open_client(api(), connection("http://127.0.0.1:1"), QUICK)
        async with client:
            with pytest.raises(httpx.UnsupportedProtocol):
                await client.get(stranger.url)
    assert stranger.requests == []
