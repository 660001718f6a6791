"""What requests cost of a budget depends on their source, also of a budget that sources share."""

import pytest

from flows.declare.budget import Budget
from flows.publish.budget import Allowance, Spending
from flows.values.settings import settings


def test_requests_are_charged_at_the_price_of_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_PRICES_PER_THOUSAND_REQUESTS", '{"web": 500}')
    settings.cache_clear()
    try:
        shared = Allowance("the run", Budget(money=1))
        free, charged = Spending("crm.people", (shared,)), Spending("web.visits", (shared,))
        free.spend(requests=1_000)
        assert not shared.exhausted()
        charged.spend(requests=2)
        assert shared.exhausted() == "1.00 EUR"
    finally:
        settings.cache_clear()
