"""With another key nobody who was erased is recognised: a lost one is never replaced in silence."""

import asyncio
from pathlib import Path

import pytest

from flows.access.erasure_key import erasure_key
from flows.privacy.erase import erase
from flows.privacy.returned import erase_returned_since_last_build
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.kinds.loading import change, load, rows
from tests.privacy.one_household import HOUSEHOLD, KEY


def forget(key: str = KEY) -> None:
    asyncio.run(erase(HOUSEHOLD, key, despite_source=True))


def test_another_key_is_refused_by_erasures_and_by_loads(
    held: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget()
    before = rows(held, "select count(*) as n from ops.erasures")
    monkeypatch.setenv("MEDALLION_ERASURE_KEY", "another-secret-of-the-tests")
    settings.cache_clear()
    change(shop, "update households set updated_at = now() where household_id = 5")
    asyncio.run(load(held, shop, "households"))

    for act in (lambda: forget("6"), lambda: asyncio.run(erase_returned_since_last_build())):
        with pytest.raises(ConfigurationError, match="not the one that subjects were erased with"):
            act()

    assert rows(held, "select count(*) as n from ops.erasures") == before
    monkeypatch.setenv("MEDALLION_ERASURE_KEY", "a-secret-of-the-tests")
    settings.cache_clear()
    assert asyncio.run(erase_returned_since_last_build()) == 1


def test_a_lost_key_of_the_embedded_stack_is_not_made_anew(
    held: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDALLION_ERASURE_KEY")
    monkeypatch.setattr(settings(), "home", tmp_path)
    monkeypatch.setattr(settings(), "erasure_key", None)
    (tmp_path / "stack.json").write_text("{}")
    forget()
    first = erasure_key()
    (tmp_path / "erasure.key").rename(tmp_path / "lost")

    with pytest.raises(ConfigurationError, match="is lost") as refused:
        forget("6")

    assert "former key" in refused.value.fix
    assert not (tmp_path / "erasure.key").exists()
    (tmp_path / "lost").rename(tmp_path / "erasure.key")
    forget("6")
    assert erasure_key() == first
