"""Each page, as somebody who is logged in sees it."""

from collections.abc import Iterator

import pytest

from flows.dashboard.app import PAGES
from tests.conftest import TestCluster
from tests.dashboard.served import SEED, Browser, Served, served
from tests.publish.two_ends import run_sql

OPERATIONS = [page for page in PAGES if page not in ("/login", "/sales", "/customers", "/campaigns", "/forecast")]


@pytest.fixture(scope="module")
def seeded(cluster: TestCluster) -> Iterator[Served]:
    with served(cluster) as running:
        run_sql(running.warehouse.url("loader"), SEED.replace("{tables}", "4").replace("{days}", "9"))
        yield running


@pytest.fixture(scope="module")
def operator(seeded: Served) -> Browser:
    return seeded.login("otto")


@pytest.mark.parametrize("path", [page for page in OPERATIONS if page not in ("/alert", "/table", "/load")])
def test_a_page_has_a_title_one_heading_landmarks_and_a_link_to_its_content(operator: Browser, path: str) -> None:
    answer = operator.get(path)
    assert answer.status_code == 200, answer.text
    for part in ("<title>", "<main", '<nav class="menu"', 'class="skip"', 'lang="en"'):
        assert part in answer.text
    assert answer.text.count("<h1") == 1
