"""Settings are read from the environment, and checked."""

from pathlib import Path

import pytest

from flows.values.errors import ConfigurationError
from flows.values.settings import Settings, settings
from flows.values.variables import from_environment


def read(**variables: str) -> Settings:
    values, wrong = from_environment(
        Settings, "MEDALLION_", {f"MEDALLION_{name}": text for name, text in variables.items()}
    )
    assert not wrong
    return Settings(**values)


def test_each_setting_is_read_as_its_type() -> None:
    found = read(
        HOME="~/stack", WAREHOUSE_URL="postgresql://w", ROW_LIMIT="5", COST_BUDGET="1e3", BACKUP_KEY_FILE="key.txt",
        UPGRADE_AT_FIRST_USE="No", LOG_FORMAT="json", UI_URL="",
    )  # fmt: skip
    assert found.home == Path.home() / "stack"
    assert found.warehouse_url is not None
    assert found.warehouse_url.get_secret_value() == "postgresql://w"
    assert (found.row_limit, found.cost_budget, found.backup_key_file) == (5, 1000.0, Path("key.txt"))
    assert (found.upgrade_at_first_use, found.log_format, found.ui_url) == (False, "json", "")
    assert (found.load_attempts, found.warehouse_transformer_url) == (4, None), "what is unset has its default"


def test_a_variable_may_be_written_in_lower_case() -> None:
    values, _ = from_environment(Settings, "MEDALLION_", {"medallion_load_attempts": "7", "OTHER_LOAD_ATTEMPTS": "9"})
    assert values == {"load_attempts": 7}


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("LOAD_ATTEMPTS", "s3cret", "must be a whole number"),
        ("LOAD_ATTEMPTS", "0", "must be at least 1"),
        ("CONNECT_TIMEOUT_SECONDS", "0", "must be greater than 0"),
        ("CONNECT_TIMEOUT_SECONDS", "nan", "must be greater than 0"),
        ("RETRY_FIRST_DELAY_SECONDS", "s3cret", "must be a number"),
        ("COST_BUDGET", "", "must be a number"),
        ("UPGRADE_AT_FIRST_USE", "s3cret", "must be true or false"),
        ("LOG_FORMAT", "s3cret", "must be 'json' or 'pretty'"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(
    variable: str, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MEDALLION_{variable}", text)
    monkeypatch.setenv("MEDALLION_DBT_THREADS", "-1")
    settings.cache_clear()
    try:
        with pytest.raises(ConfigurationError) as refused:
            settings()
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    said = str(refused.value)
    assert f"MEDALLION_{variable}: {reason}" in said
    assert "MEDALLION_DBT_THREADS: must be at least 1" in said
    assert "s3cret" not in said
    assert refused.value.exit_code == 2


def test_secrets_are_not_printed() -> None:
    found = read(WAREHOUSE_URL="postgresql://w:s3cret@db/w", MASK_KEY="s3cret")
    assert "s3cret" not in f"{found} {found!r} {found.warehouse_url} {found.warehouse_url!r}"
