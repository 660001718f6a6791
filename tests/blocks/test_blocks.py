"""Blocks on a real Prefect server: registered, found again, and silent about what they hold."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks.lookup import find
from blocks.types import TYPES, AlertChannel, KeptToken, SourceApi, SourceDatabase, Warehouse
from deployments.documents import documents, register
from flows.values.settings import settings
from tests.deployments.asking import asked

ROOT = Path(__file__).parents[2]
CONFIGURED = {
    "MEDALLION_WAREHOUSE_URL": "postgresql://loader:pw-loader@db/warehouse",
    "MEDALLION_WAREHOUSE_TRANSFORMER_URL": "postgresql://transformer:pw-transformer@db/warehouse",
    "MEDALLION_SOURCE_SHOP_URL": "postgresql://reader:pw-shop@db/shop",
    "MEDALLION_SOURCE_MARKETING_URL": "https://api.example.com",
    "MEDALLION_SOURCE_MARKETING_KEY": "key-marketing",
    "MEDALLION_ALERT_WEBHOOK_URL": "https://hooks.example.com/pw-hook",
}
DOCUMENTS = {
    "medallion-warehouse": "warehouse",
    "medallion-source-database": "source-shop",
    "medallion-source-api": "source-marketing",
    "medallion-alert-channel": "alerts",
}
SECRETS = ("pw-loader", "pw-transformer", "pw-shop", "key-marketing", "pw-hook")
STACK = {
    "urls": {
        "warehouse_loader": "postgresql://l@stack/w",
        "warehouse_transformer": "postgresql://t@stack/w",
        "warehouse_reader": "postgresql://r@stack/w",
        "shop_extractor": "postgresql://e@stack/shop",
    },
    "commerce": {"url": "http://127.0.0.1:1", "api_key": "k"},
}


@pytest.mark.xdist_group("blocks")
def test_blocks_are_registered_once_found_again_and_never_shown(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test, because these steps share what stands on the server, and tests run side by side."""
    for name, value in CONFIGURED.items():
        monkeypatch.setenv(name, value)
    try:
        assert_the_command_is_idempotent_and_silent()
        assert_found_as_plain_values()
        # Ingest looks addresses up inside its async flow, where Prefect's plain `load` would return a coroutine.
        asyncio.run(find_inside_a_running_loop())
        answer = asked("POST", f"{prefect_server}/block_documents/filter", json={"include_secrets": False})
        assert "medallion" in answer.text
        assert not [secret for secret in SECRETS if secret in answer.text]
        monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", "postgresql://reader:new@db/shop")
        assert {document.name: document.outcome for document in register()} == {
            "warehouse": "unchanged",
            "source-shop": "updated",
            "source-marketing": "unchanged",
            "alerts": "unchanged",
        }
        assert find("source-shop") == {"url": "postgresql://reader:new@db/shop"}
    finally:
        for slug, name in DOCUMENTS.items():
            Block.delete(f"{slug}/{name}", _sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher


def assert_the_command_is_idempotent_and_silent() -> None:
    first, second = (
        subprocess.run(
            [sys.executable, "-m", "deployments.documents"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert all(f"created    {name} (" in first.stdout for name in DOCUMENTS.values())
    assert second.stdout.count("unchanged") == len(DOCUMENTS) == len(second.stdout.splitlines())
    printed = first.stdout + first.stderr + second.stdout + second.stderr
    assert not [secret for secret in SECRETS if secret in printed]


def assert_found_as_plain_values() -> None:
    assert find("warehouse") == {
        "loader": CONFIGURED["MEDALLION_WAREHOUSE_URL"],
        "transformer": CONFIGURED["MEDALLION_WAREHOUSE_TRANSFORMER_URL"],
        "reader": None,
    }
    assert find("source-shop") == {"url": CONFIGURED["MEDALLION_SOURCE_SHOP_URL"]}
    unset = {"user": None, "token": None, "certificate": None}
    assert find("source-marketing") == {"url": "https://api.example.com", "key": "key-marketing", **unset}


async def find_inside_a_running_loop() -> None:
    assert find("source-shop") == {"url": CONFIGURED["MEDALLION_SOURCE_SHOP_URL"]}


def test_a_block_that_nobody_made_is_none(prefect_server: str) -> None:
    assert find("source-nowhere") is None
    assert find("source-no_where") is None


def test_the_embedded_stack_fills_what_the_environment_does_not() -> None:
    found = dict(documents({"MEDALLION_SOURCE_SHOP_URL": "postgresql://mine/shop"}, STACK))
    warehouse, shop, marketing = found["warehouse"], found["source-shop"], found["source-marketing"]
    assert isinstance(warehouse, Warehouse)
    assert isinstance(shop, SourceDatabase)
    assert isinstance(marketing, SourceApi)
    assert warehouse.transformer.get_secret_value() == "postgresql://t@stack/w"
    assert shop.url.get_secret_value() == "postgresql://mine/shop"
    assert marketing.base_url == "http://127.0.0.1:1"


def test_the_roles_of_two_warehouses_are_never_mixed() -> None:
    """A team that sets only the loader's address must not build its models in the embedded warehouse."""
    found = dict(documents({"MEDALLION_WAREHOUSE_URL": "postgresql://l@team/w"}, STACK))
    warehouse = found["warehouse"]
    assert isinstance(warehouse, Warehouse)
    assert warehouse.transformer.get_secret_value() == "postgresql://l@team/w"
    assert warehouse.reader is None


def test_nothing_configured_makes_no_document() -> None:
    assert list(documents({}, {})) == []


def test_the_embedded_stack_s_addresses_are_registered_at_its_own_server_only(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the team's PREFECT_API_URL in the shell, `medallion up` would else send localhost to every worker."""
    for name in CONFIGURED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        foreign = {**STACK, "prefect": {"api_url": "http://127.0.0.1:1/api"}}
        (tmp_path / "stack.json").write_text(json.dumps(foreign))
        assert register() == []
    finally:
        settings.cache_clear()


def test_an_embedded_stack_that_cannot_be_read_is_told(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flows.values.errors import ConfigurationError

    (tmp_path / "stack.json").write_text("{broken")
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match="medallion up"):
            register()
    finally:
        settings.cache_clear()


def test_no_representation_of_a_block_shows_a_secret() -> None:
    blocks = [
        Warehouse(loader=SecretStr("s3cret"), transformer=SecretStr("s3cret"), reader=SecretStr("s3cret")),
        SourceDatabase(url=SecretStr("s3cret")),
        SourceApi(base_url="https://x", key=SecretStr("s3cret")),
        KeptToken(state=SecretStr("s3cret")),
        AlertChannel(webhook=SecretStr("s3cret")),
    ]
    assert {type(block) for block in blocks} == set(TYPES)
    for block in blocks:
        assert "s3cret" not in f"{block!r} {block} {json.dumps(block.model_dump(), default=str)}"
