"""AWS on this machine: moto's server, asked over HTTP by the real clients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from flows.values.settings import settings

REGION = "eu-central-1"


@dataclass(frozen=True)
class Aws:
    """An AWS of the session's own. Names in it are shared by the session's tests."""

    url: str

    def client(self, service: str) -> Any:
        """A plain client of a service, for what a test puts in and looks at."""
        return boto3.client(service, endpoint_url=self.url, region_name=REGION)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a running server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The platform talks to moto, as somebody whom moto lets do everything."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("MEDALLION_AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("MEDALLION_SECRETS_PREFIX", "medallion-test/")
    settings.cache_clear()
    yield Aws(moto)
    settings.cache_clear()
