"""What a request passes before a page sees it."""

import re
from collections.abc import Iterator

import httpx
import pytest

from flows.dashboard.app import ACTIONS, PAGES
from flows.dashboard.desk import Desk
from flows.dashboard.people import People, Person, read_people
from flows.dashboard.serving import listen
from flows.dashboard.sessions import IDLE, LIFETIME, Sessions
from flows.values.errors import ConfigurationError
from flows.values.settings import Settings
from tests.conftest import TestCluster, fresh_warehouse
from tests.dashboard.served import PASSWORD, Served, people, served, serving
from tests.publish.two_ends import run_sql

pytestmark = pytest.mark.xdist_group("dashboard")

POSTS = [path for path in ACTIONS if path not in ("/login", "/logout")]
FIELDS = {"id": "1", "pattern": "late *", "lasting": "1 h", "reason": "known", "name": "shop.baskets"}
ACTIONS_KEPT = "select person, action, subject, outcome from ops.dashboard_actions order by action_id"


@pytest.fixture(scope="module")
def running(cluster: TestCluster) -> Iterator[Served]:
    with served(cluster) as found:
        yield found


@pytest.mark.parametrize("path", [page for page in PAGES if page != "/login"])
def test_a_page_is_for_those_who_have_logged_in(running: Served, path: str) -> None:
    answer = running.browser().get(path)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")


def test_htmx_is_sent_to_the_login_and_does_not_put_it_into_the_page(running: Served) -> None:
    answer = running.browser().get("/", **{"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1", ""])
def test_another_host_name_is_not_served(running: Served, host: str) -> None:
    """A name that an attacker's DNS points at 127.0.0.1 would make our pages its own."""
    for path in ("/", "/login", "/static/dashboard.js"):
        assert running.browser().get(path, host=host).status_code == 421


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("token", ["", "x" * 43, "\u00e9"])
def test_a_form_without_its_token_does_nothing(running: Served, path: str, token: str) -> None:
    answer = running.login("otto").post(path, csrf=token, **FIELDS)
    assert answer.status_code == 403
    assert "out of date" in answer.text
    assert run_sql(running.warehouse.url("loader"), "select count(*) from ops.silences") == [(0,)]


def test_a_token_is_worth_nothing_in_another_session(running: Served) -> None:
    mine, theirs = running.login("otto"), running.login("all")
    assert mine.post("/alerts/silence", csrf=theirs.csrf(), **FIELDS).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
     {"sec-fetch-site": "same-site"}, {"origin": "http://127.0.0.1:1"}],
)  # fmt: skip
def test_a_form_of_another_site_does_nothing(running: Served, headers: dict[str, str]) -> None:
    browser = running.login("otto")
    token = browser.csrf()
    browser.client.headers.update(headers)
    assert browser.post("/alerts/silence", csrf=token, **FIELDS).status_code == 403
    assert run_sql(running.warehouse.url("loader"), "select count(*) from ops.silences") == [(0,)]


def test_the_same_form_of_our_own_page_does_it(running: Served) -> None:
    """The control of those above: nothing else kept them from it."""
    browser = running.login("otto")
    browser.client.headers.update({"origin": running.url, "sec-fetch-site": "same-origin"})
    assert browser.post("/alerts/silence", **FIELDS).status_code == 303
    assert run_sql(running.warehouse.url("loader"), "delete from ops.silences returning created_by") == [("otto",)]


@pytest.mark.parametrize("name", ["vera", "anna"])
@pytest.mark.parametrize("path", POSTS)
def test_who_is_no_operator_does_nothing_and_the_attempt_is_kept(running: Served, name: str, path: str) -> None:
    browser = running.login(name)
    answer = browser.post(path, csrf=browser.csrf("/" if name == "vera" else "/nowhere"), **FIELDS)
    assert answer.status_code == 403
    kept = run_sql(running.warehouse.url("loader"), ACTIONS_KEPT)
    assert kept[-1] == (name, path.strip("/"), "needs operator", "refused")


@pytest.mark.parametrize("path", ["/sales", "/customers", "/campaigns", "/forecast"])
def test_pages_of_gold_are_for_analysts(running: Served, path: str) -> None:
    assert running.login("otto").get(path).status_code == 403


def test_pages_of_operations_are_not_for_analysts(running: Served) -> None:
    assert running.login("anna").get("/alerts").status_code == 403


def test_a_login_begins_a_session_whose_cookie_nobody_else_can_have_set(running: Served) -> None:
    """Session fixation: an attacker who sets the cookie before the login must not know it afterwards."""
    browser = running.browser()
    name = f"medallion_{running.url.rpartition(':')[2]}"
    browser.client.cookies.set(name, "chosen-by-somebody-else")
    token = browser.csrf("/login")
    done = browser.client.post("/login", data={"csrf": token, "name": "otto", "password": PASSWORD})
    (cookie,) = [line for line in done.headers.get_list("set-cookie") if line.startswith(f"{name}=")]
    assert "chosen-by-somebody-else" not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    fixed = httpx.get(f"{running.url}/", cookies={name: "chosen-by-somebody-else"}, trust_env=False)
    assert fixed.status_code == 303


def test_a_logout_ends_the_session_for_whoever_has_the_cookie(running: Served) -> None:
    browser = running.login("otto")
    fresh = httpx.Client(base_url=running.url, cookies=dict(browser.client.cookies), trust_env=False)
    assert fresh.get("/alerts").status_code == 200
    browser.post("/logout")
    assert fresh.get("/alerts").status_code == 303


def test_a_second_login_ends_the_first_session_of_the_browser(running: Served) -> None:
    browser = running.login("otto")
    fresh = httpx.Client(base_url=running.url, cookies=dict(browser.client.cookies), trust_env=False)
    assert fresh.get("/alerts").status_code == 200
    again = {"csrf": browser.csrf(), "name": "otto", "password": PASSWORD}
    assert browser.client.post("/login", data=again).status_code == 303
    assert fresh.get("/alerts").status_code == 303


def test_a_login_needs_the_form_and_the_right_password(running: Served) -> None:
    browser = running.browser()
    assert browser.client.post("/login", data={"name": "otto", "password": PASSWORD}).status_code == 403
    token = browser.csrf("/login")
    for name, password in (("otto", "wrong"), ("nobody", PASSWORD), ("", "")):
        answer = browser.client.post("/login", data={"csrf": token, "name": name, "password": password})
        assert (answer.status_code, "Name or password is wrong" in answer.text) == (401, True)


def test_guessing_passwords_is_slowed_down(running: Served) -> None:
    browser = running.browser()
    token = browser.csrf("/login")
    answers = [
        browser.client.post("/login", data={"csrf": token, "name": "guessed", "password": str(n)}).status_code
        for n in range(7)
    ]
    assert answers == [401] * 5 + [429] * 2
    assert running.login("otto").get("/").status_code == 200, "nobody else waits"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nx: y"]
)
def test_a_login_leads_to_our_own_pages_only(running: Served, target: str) -> None:
    browser = running.browser()
    form = {"csrf": browser.csrf("/login"), "name": "otto", "password": PASSWORD, "next": target}
    assert browser.client.post("/login", data=form).headers["location"] == "/"


def test_a_form_that_is_too_large_is_not_read(running: Served) -> None:
    assert running.login("otto").post("/alerts/silence", reason="x" * 100_000).status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
     "/static/vendor/..%5c..%5capp.py", "/static/%00", "/static/vendor"],
)  # fmt: skip
def test_static_files_are_those_of_their_folder(running: Served, path: str) -> None:
    with httpx.Client(trust_env=False) as client:
        request = client.build_request("GET", running.url)
        request.url = request.url.copy_with(raw_path=path.encode())
        assert client.send(request).status_code in (303, 404, 405)


def test_answers_forbid_scripts_of_others_frames_and_copies(running: Served) -> None:
    browser = running.login("otto")
    for answer in (browser.get("/"), browser.get("/nowhere"), running.browser().get("/login")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        # Nothing in the page needs more than that: no script, no style and no handler of its own.
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=\"/static/)", answer.text)
    assert browser.get("/static/dashboard.js").headers["cache-control"] == "no-cache"


def test_there_is_no_other_method(running: Served) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        assert running.login("otto").client.request(method, "/").status_code == 405


def test_sessions_end_when_idle_and_at_the_end_of_the_day() -> None:
    at = [0.0]
    sessions = Sessions(clock=lambda: at[0])
    person = Person("otto", frozenset())
    idle, busy = sessions.begin(person), sessions.begin(person)
    while at[0] < LIFETIME:
        assert sessions.find(busy) is not None
        at[0] += IDLE / 2
    assert sessions.find(idle) is None
    at[0] += IDLE / 2
    assert sessions.find(busy) is None


def test_a_proxy_names_people_only_with_its_secret(cluster: TestCluster) -> None:
    secret = "a secret of the proxy"
    behind = People(people().known, header="x-auth-user", proxy_secret=secret)
    with fresh_warehouse(cluster) as warehouse, serving(warehouse, Desk(behind)) as found:
        browser = found.browser()
        assert browser.get("/", **{"x-auth-user": "otto"}).status_code == 403
        assert browser.get("/", **{"x-auth-user": "otto", "x-medallion-proxy": "wrong"}).status_code == 403
        browser.client.headers.update({"x-auth-user": "otto", "x-medallion-proxy": secret})
        assert browser.get("/").status_code == 200
        assert browser.post("/alerts/silence", **FIELDS).status_code == 303
        browser.client.headers["x-auth-user"] = "nobody"
        assert browser.get("/").status_code == 403


@pytest.mark.parametrize(
    "variables",
    [{"dashboard_users": "otto"}, {"dashboard_users": "otto:king:"}, {"dashboard_users": "otto:viewer:plain"},
     {"dashboard_proxy_header": "x-user"}, {"dashboard_proxy_header": "x-user", "dashboard_proxy_secret": "short"}],
)  # fmt: skip
def test_settings_that_cannot_be_read_are_refused_at_the_start(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_people(Settings(**variables))  # type: ignore[arg-type]
    assert "plain" not in str(refused.value), "it may be a password"


def test_without_users_the_token_of_the_start_is_all_there_is(cluster: TestCluster) -> None:
    desk = Desk(read_people(Settings()))
    token = desk.people.token
    assert token is not None
    with fresh_warehouse(cluster) as warehouse, serving(warehouse, desk) as found:
        browser = found.browser()
        csrf = browser.csrf("/login")
        assert browser.client.post("/login", data={"csrf": csrf, "password": "wrong"}).status_code == 401
        assert browser.client.post("/login", data={"csrf": csrf, "password": token}).status_code == 303
        assert browser.get("/").status_code == 200


def test_only_loopback_is_listened_on() -> None:
    with listen(0) as opened:
        assert opened.getsockname()[0] == "127.0.0.1"
    with listen(0) as taken, pytest.raises(ConfigurationError, match="cannot be opened"):
        listen(taken.getsockname()[1])
