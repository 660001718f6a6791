"""Each page, as somebody who is logged in sees it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from flows.dashboard.app import PAGES
from flows.values.settings import settings
from tests.conftest import TestCluster
from tests.dashboard.served import SEED, Browser, Served, served
from tests.publish.two_ends import run_sql

pytestmark = pytest.mark.xdist_group("dashboard")

OPERATIONS = [
    *(page for page in PAGES if page not in (
        "/login", "/sales", "/customers", "/campaigns", "/forecast", "/cost", "/alert", "/table", "/load")),
    "/alert?id=1", "/table?name=shop.table_1", "/load?id=4", "/durations?table=shop.table_3",
]  # fmt: skip
#: What a source, an API or a colleague may put into a name or a text.
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}\u202egpj.exe\u0634\u062c\u0631\x1b[31m"
FIRE = """
select ops.fire_alert(jsonb_populate_record(null::ops.alerts, jsonb_build_object(
    'name', %(name)s::text, 'subject', %(subject)s::text, 'severity', %(severity)s::text, 'what', %(what)s::text,
    'fix', %(what)s::text, 'cause', %(subject)s::text, 'source_system', 'shop', 'table_name', %(subject)s::text)))
"""
LOAD = """
insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated,
    rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, started_at, finished_at, error)
values ('shop', %s, 'merge', %s, %s, %s, 0, 0, %s, %s, 0, clock_timestamp() - interval '1 min', clock_timestamp(), %s)
"""

QUESTION = """
insert into ops.decisions (kind, subject, source_system, table_name, what, plan, plan_digest, two_persons, requested_by,
    lasts, expires_at)
values ('deletes', 'shop.baskets', 'shop', 'baskets', '500 rows would be deleted', '{}', 'x', false, 'worker',
    interval '1 h', clock_timestamp() + interval '1 h')
"""


def fire(running: Served, subject: str, what: str = "two hours old", severity: str = "error") -> None:
    facts = {"name": "late", "subject": subject, "severity": severity, "what": what}
    run_sql(running.warehouse.url("loader"), FIRE, facts)


@pytest.fixture(scope="module")
def seeded(cluster: TestCluster) -> Iterator[Served]:
    with served(cluster) as running:
        run_sql(running.warehouse.url("loader"), SEED.replace("{tables}", "4").replace("{days}", "9"))
        fire(running, "shop.table_1")
        yield running


@pytest.fixture(scope="module")
def operator(seeded: Served) -> Browser:
    return seeded.login("otto")


@pytest.fixture(scope="module")
def hostile(cluster: TestCluster) -> Iterator[Browser]:
    """A dashboard over a warehouse in which all that others can name is as bad as they can make it."""
    with served(cluster) as running:
        url = running.warehouse.url("loader")
        run_sql(url, LOAD, [HOSTILE, "published", 3, 1, 1, 1, None])
        run_sql(url, LOAD, [HOSTILE, "failed", None, None, None, None, HOSTILE])
        fire(running, f"shop.{HOSTILE}", HOSTILE)
        run_sql(url, "insert into quarantine.rows (batch_id, source_system, table_name, rule, row_data, row_hash) "
                "values (1, 'shop', %s, %s, '{}', 'x')", [HOSTILE, HOSTILE])  # fmt: skip
        run_sql(url, "insert into ops.errors values ('e1', null, null, 'transient', 'error', 'ask', %s, %s, %s, true)",
                [HOSTILE] * 3)  # fmt: skip
        run_sql(url, "insert into ops.silences (pattern, until, reason, created_by) "
                "values (%s, clock_timestamp() + interval '1 h', %s, %s)", [HOSTILE] * 3)  # fmt: skip
        run_sql(url, "insert into ops.watches values (%s, '1', now(), now(), 1, 0.1)", [HOSTILE])
        yield running.login("otto")


@pytest.mark.parametrize("path", OPERATIONS)
def test_a_page_has_a_title_one_heading_landmarks_and_a_link_to_its_content(operator: Browser, path: str) -> None:
    answer = operator.get(path)
    assert answer.status_code == 200, answer.text
    for part in ("<title>", "<main", '<nav class="menu"', 'class="skip"', 'lang="en"'):
        assert part in answer.text
    assert answer.text.count("<h1") == 1


@pytest.mark.parametrize("path", [*OPERATIONS[:-3], "/load?id=2"])
def test_what_others_have_named_is_text_and_nothing_else(hostile: Browser, path: str) -> None:
    text = hostile.get(path).text
    for bad in ("<script>alert", "<img", "\"'>", "\u202e", "\x1b", "onerror=alert(2)>"):
        assert bad not in text, bad
    assert not re.search(r"\b49\b", text.replace("{{7*7}}", "")) or "{{7*7}}" in text, "templates are not evaluated"


def test_a_hostile_table_has_a_page_of_its_own(hostile: Browser) -> None:
    (link,) = {*re.findall(r'href="(/table\?name=[^"&]+)"', hostile.get("/rows").text)}
    answer = hostile.get(link)
    assert answer.status_code == 200
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "\\u202e" in answer.text, "marks of direction are written out"
    assert "\u0634\u062c\u0631" in answer.text, "letters that are written from right to left stay as they are"


@pytest.mark.parametrize("path", ["/table?name=nothing", "/load?id=999999", "/load?id=x", "/alert?id=99999999999999999",
                                  "/table", "/alert", "/load?id=-1", "/nowhere", "/quarantine/../x"])  # fmt: skip
def test_what_does_not_exist_is_said_to_be_missing(operator: Browser, path: str) -> None:
    answer = operator.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/alerts?page=99999999999999999999", "/alerts?page=-1", "/alerts?severity='",
                                  "/rows?days=9", "/table?name=shop.table_1&day=nope", "/durations?table='",
                                  "/lineage?of=<b>"])  # fmt: skip
def test_a_query_that_makes_no_sense_is_left_out(operator: Browser, path: str) -> None:
    assert operator.get(path).status_code == 200


def test_ten_thousand_alerts_are_shown_a_page_at_a_time(cluster: TestCluster) -> None:
    with served(cluster) as running:
        run_sql(running.warehouse.url("loader"),
                "insert into ops.alerts (name, subject, cause, severity, what, fix) "
                "select 'late', 'shop.t' || n, 'x', (array['critical', 'warning'])[1 + (n % 5000 > 0)::int], 'w', 'f' "
                "from generate_series(1, 10000) as n")  # fmt: skip
        browser = running.login("otto")
        first, last = browser.get("/alerts").text, browser.get("/alerts?page=200").text
        now = browser.get("/").text
    assert "10,000 open, page 1 of 200" in first
    assert first.count("/alert?id=") == last.count("/alert?id=") == 50
    assert first.index("late shop.t5000") < first.index("late shop.t1<"), "the most severe first"
    assert now.count('<li class="card') == 5
    assert "10,000 alerts are firing" in now
    assert len(first) + len(now) < 100_000


def test_a_question_that_waits_for_a_person_is_on_the_first_page_until_it_is_answered(cluster: TestCluster) -> None:
    with served(cluster) as running:
        url, browser = running.warehouse.url("loader"), running.login("vera")
        assert "No question waits for a person" in browser.get("/").text
        run_sql(url, QUESTION)
        asked = browser.get("/").text
        run_sql(url, "update ops.decisions set status = 'expired'")
        running.forget()
        expired = browser.get("/").text
    assert "1 question waits for a person" in asked
    assert "<code>medallion decide show 1</code>" in asked
    assert "500 rows would be deleted" in asked
    assert "No question waits for a person" in expired


def test_rows_that_were_read_add_up_or_the_page_says_of_which_table_they_do_not(cluster: TestCluster) -> None:
    with served(cluster) as running:
        url, browser = running.warehouse.url("loader"), running.login("vera")
        run_sql(url, LOAD, ["baskets", "published", 10, 7, 2, 1, None])
        assert "The sum holds for every table" in browser.get("/rows").text
        # The ledger refuses such a row; a restored or edited one may have it.
        run_sql(url, "alter table ops.loads drop constraint every_row_is_accounted_for")
        run_sql(url, LOAD, ["stores", "published", 10, 7, 0, 1, None])
        text = browser.get("/rows").text
    assert "The sum does not hold for shop.stores" in text
    assert "\u2715 2</strong>" in text


def test_a_day_that_failed_and_recovered_looks_other_than_one_that_stayed_bad(cluster: TestCluster) -> None:
    with served(cluster) as running:
        url = running.warehouse.url("loader")
        for table, ends in (("bad", "failed"), ("mended", "published")):
            run_sql(url, LOAD, [table, "failed", None, None, None, None, "x"])
            if ends == "published":
                run_sql(url, LOAD, [table, "published", 1, 1, 0, 0, None])
        text = running.login("vera").get("/grid").text
    day = datetime.now(UTC).date()
    assert f'{day}: 1 load, 1 failed, 0 refused; the last one was not published"' in text
    assert f'{day}: 2 loads, 1 failed, 0 refused; the last one was published"' in text
    assert {"\u25d0", "\u2715"} <= set(text), "without colours, too"


@pytest.mark.parametrize("path", ["/durations?table=shop.table_1", "/resources", "/errors"])
def test_the_numbers_of_a_chart_are_in_its_table(operator: Browser, path: str) -> None:
    """The script draws the chart from this table, so there is no other number in it."""
    text = operator.get(path).text
    figures = re.findall(r'<figure class="chart".*?</figure>', text, re.DOTALL)
    assert figures
    for figure in figures:
        assert "<details" in figure
        assert "<caption" in figure
        assert re.search(r'data-v="[\d.]+"', figure)


def test_what_the_last_load_and_build_used_is_on_the_page_of_resources(cluster: TestCluster) -> None:
    with served(cluster) as running:
        url = running.warehouse.url("loader")
        run_sql(url, LOAD, ["baskets", "published", 10, 10, 0, 0, None])
        run_sql(url, "insert into ops.usage (kind, scope, name, status, seconds, cpu_seconds, memory_bytes, rows) "
                "values ('load', 'shop', 'baskets', 'published', 9, 4.25, 66000000, 10), "
                "('model', '', 'dim_store', 'success', 42, null, null, 1234)")  # fmt: skip
        text = running.login("vera").get("/resources").text
    assert '<td class="num">4.2 s</td><td class="num">66.0 MB</td>' in text
    assert '<th scope="row" class="name">dim_store</th><td class="num">42 s</td><td class="num">1,234</td>' in text


def test_cost_has_a_page_once_prices_are_set_and_its_lines_add_up(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(cluster) as running:
        url, browser = running.warehouse.url("loader"), running.login("vera")
        assert browser.get("/cost").status_code == 404
        assert 'href="/cost"' not in browser.get("/").text
        monkeypatch.setenv("MEDALLION_PRICE_PER_HOUR", "3600")
        for kind, scope, name, seconds in (("run", "shop", "ingest", 100), ("load", "shop", "baskets", 75)):
            run_sql(url, "insert into ops.usage_days values (current_date - 1, %s, %s, %s, 1, %s, 0, 0)",
                    [kind, scope, name, seconds])  # fmt: skip
        settings.cache_clear()
        text = browser.get("/cost").text
        assert 'href="/cost"' in text
    monkeypatch.undo()
    settings.cache_clear()
    assert "Cost by day, EUR" in text
    amounts = [float(cell) for cell in re.findall(r'<td class="num">([\d,]+\.\d\d)</td>', text)]
    assert (amounts[0], amounts[-2], amounts[-1], sum(amounts[:-1])) == (75, 25, 100, 100)
    assert text.index("shop.baskets</th>") < text.index("unattributed</th>")


def test_times_are_utc_until_the_script_writes_them_in_the_zone_of_the_reader(operator: Browser) -> None:
    (when, title, shown) = re.findall(
        r'<time datetime="([^"]+)" title="([^"]+)">([^<]+)<', operator.get("/alert?id=1").text
    )[0]
    assert when.endswith("+00:00")
    assert title.endswith(" UTC")
    assert shown.endswith(" UTC")


def test_without_a_warehouse_a_page_says_so_and_comes_back_with_it(cluster: TestCluster) -> None:
    with served(cluster) as running:
        browser, name = running.login("otto"), running.warehouse.name
        assert browser.get("/").status_code == 200
        cluster.connection.execute(f'alter database "{name}" allow_connections false'.encode())
        cluster.connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        running.forget()
        answer = browser.get("/")
        assert answer.status_code == 503
        assert "What to do" in answer.text
        assert "Traceback" not in answer.text
        assert running.warehouse.cluster.passwords["medallion_dashboard"] not in answer.text
        assert browser.get("/static/dashboard.css").status_code == 200
        cluster.connection.execute(f'alter database "{name}" allow_connections true'.encode())
        assert browser.get("/").status_code == 200


def test_a_warehouse_that_was_never_loaded_has_its_pages_too(cluster: TestCluster) -> None:
    with served(cluster) as running:
        browser = running.login("all")
        for path in OPERATIONS[:-4]:
            assert browser.get(path).status_code == 200, path
        assert "Business" not in browser.get("/").text, "there is no model of gold"
        assert browser.get("/sales").status_code == 404


def test_the_role_of_the_dashboard_reads_and_nothing_else(cluster: TestCluster) -> None:
    with served(cluster) as running:
        url = running.warehouse.url("dashboard")
        for statement in ("delete from ops.alerts", "select row_data from quarantine.rows", "select * from ops.cursors",
                          "create table gold.mine (id int)", "select * from ops.locks"):  # fmt: skip
            with pytest.raises(Exception, match=r"permission denied|may not run"):
                run_sql(url, statement)
        assert run_sql(url, "select count(*) from ops.loads") == [(0,)]
