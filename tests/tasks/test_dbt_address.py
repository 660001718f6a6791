"""What of an address reaches dbt: read back from the profile, as dbt-postgres connects with it."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from dbt.config.profile import Profile
from dbt.config.renderer import ProfileRenderer
from dbt.flags import set_from_args
from dbt_common.context import set_invocation_context

from flows.models.environment import dbt_environment
from flows.models.project import DBT_PROJECT


def credentials(url: str) -> dict[str, Any]:
    environment = dbt_environment(url)
    set_invocation_context(environment)
    set_from_args(Namespace(PROFILES_DIR=str(DBT_PROJECT), PROJECT_DIR=str(DBT_PROJECT)), {})
    found = Profile.render(ProfileRenderer({}), "medallion").credentials.to_dict()
    assert isinstance(found, dict)
    return found


def test_dbt_checks_the_server_by_the_certificates_that_the_address_names(tmp_path: Path) -> None:
    """Otherwise ingest would check the server by the authority of the address, and dbt by another or none."""
    ours = tmp_path / "our authority.pem"
    dbt = credentials(
        "postgresql://ann:p%40ss@db.example.com:6543/warehouse"
        f"?sslmode=verify-full&sslrootcert={str(ours).replace(' ', '%20')}&sslcert=/etc/ann.crt&sslkey=/etc/ann.key"
    )
    assert (dbt["host"], dbt["port"], dbt["user"], dbt["pass"]) == ("db.example.com", 6543, "ann", "p@ss")
    assert (dbt["sslmode"], dbt["sslrootcert"]) == ("verify-full", str(ours))
    assert (dbt["sslcert"], dbt["sslkey"]) == ("/etc/ann.crt", "/etc/ann.key")


def test_an_address_without_certificates_leaves_libpq_to_its_own_places() -> None:
    """An empty text would keep libpq from reading PGSSLROOTCERT."""
    dbt = credentials("postgresql://ann:secret@db.example.com/warehouse")
    assert dbt["sslmode"] == "prefer"
    assert {key: dbt.get(key) for key in ("sslrootcert", "sslcert", "sslkey")} == {
        "sslrootcert": None, "sslcert": None, "sslkey": None
    }  # fmt: skip


def test_a_password_of_digits_stays_a_text() -> None:
    assert credentials("postgresql://ann:0123@db.example.com/warehouse")["pass"] == "0123"
