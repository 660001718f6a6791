"""The demo's own processes: what they may see of the person's environment."""

import os

import pytest

from demo import walkthrough


def test_the_demo_never_reaches_a_warehouse_a_source_or_a_prefect_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has production's addresses in the shell and types `make demo` must not load groceries into it."""
    for name in ("MEDALLION_WAREHOUSE_URL", "MEDALLION_SOURCE_SHOP_URL", "PREFECT_API_URL", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "postgresql://production")
    monkeypatch.setenv("MEDALLION_HOME", "/somewhere")
    environment = walkthrough._embedded_only()
    assert "postgresql://production" not in environment.values()
    assert environment["MEDALLION_HOME"] == "/somewhere"
    assert environment["PATH"] == os.environ["PATH"]
