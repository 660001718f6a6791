import ssl
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    temporary_settings,
)

from flows.tasks import tls
from tests.access.authority import Authority

API = "https://127.0.0.1:4200/api"


@pytest.fixture(autouse=True)
def shared() -> None:
    tls.share()
    tls.share()


def context_of(client: SyncPrefectClient) -> ssl.SSLContext:
    context: ssl.SSLContext = client._client._transport._pool._ssl_context  # type: ignore[attr-defined]
    return context


def trusting(authority: Authority) -> ssl.SSLContext:
    with temporary_settings({PREFECT_API_URL: API, PREFECT_API_SSL_CERT_FILE: str(authority.root)}):
        return context_of(get_client(sync_client=True))


def test_clients_that_trust_the_same_share_what_was_read_once(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")

    first, second = trusting(authority), trusting(authority)

    assert first is second
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.check_hostname
    assert [found["subject"] for found in first.get_ca_certs()] == [((("commonName", "medallion-tests"),),)]


def test_one_that_trusts_another_authority_has_a_context_of_its_own(tmp_path: Path) -> None:
    one, other = Authority(tmp_path / "one", "one"), Authority(tmp_path / "other", "other")

    assert trusting(one) is not trusting(other)
    assert [found["subject"] for found in trusting(other).get_ca_certs()] == [((("commonName", "other"),),)]


def test_one_that_was_told_to_verify_nothing_leaves_the_others_verifying(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    before = trusting(authority)

    with temporary_settings({PREFECT_API_URL: API, PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        careless = context_of(get_client(sync_client=True))

    assert careless.verify_mode is ssl.CERT_NONE
    assert before.verify_mode is ssl.CERT_REQUIRED
    assert trusting(authority) is before
