"""The API as the separate process that the demo runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.commerce import set_day
from infra.local.ports import any_free

KEY = "a key of the test"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    port = any_free()
    command = [
        sys.executable,
        "-m",
        "demo.commerce",
        "--port",
        str(port),
        "--state",
        str(tmp_path),
        "--fail-every",
        "0",
    ]
    with subprocess.Popen(command, env=os.environ | {"COMMERCE_API_KEY": KEY}) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_healthy(url, process)
            yield url
        finally:
            process.terminate()


def test_the_running_api_serves_pages_and_switches_days_under_the_same_address(api: str, tmp_path: Path) -> None:
    with httpx.Client(headers={"X-API-Key": KEY}) as client:
        first = client.get(f"{api}/v1/redemptions", params={"limit": 500})
        assert httpx.get(f"{api}/v1/redemptions").status_code == 401
        set_day(tmp_path, 2)
        second = client.get(f"{api}/v1/redemptions", params={"limit": 500})
        following = client.get(second.links["next"]["url"])

    assert first.json()["meta"]["total"] == 2096
    assert second.json()["meta"]["total"] == 2102
    assert second.links["next"]["url"].startswith(f"{api}/v1/redemptions?")
    assert len(following.json()["data"]) == 500


def test_the_default_rate_lets_a_burst_of_40_through_and_then_says_429(api: str) -> None:
    granted = 0
    with httpx.Client(headers={"X-API-Key": KEY}) as client:
        # A slow machine refills the bucket while it asks, hence up to 1,000 requests.
        while (
            response := client.get(f"{api}/v1/campaigns", params={"limit": 1})
        ).status_code == 200 and granted < 1000:
            granted += 1

    assert granted >= 40
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "1"


def test_without_a_key_in_the_environment_it_says_so_and_exits_with_2(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COMMERCE_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-m", "demo.commerce", "--port", "1", "--state", str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "COMMERCE_API_KEY is not set" in done.stderr


def test_the_api_starts_without_pandas(tmp_path: Path) -> None:
    """Importing the data's package the plain way would hold pandas in a server that never uses it."""
    program = "import sys; from pathlib import Path; from demo.commerce.app import Shown; Shown(Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit('pandas' in sys.modules)", str(tmp_path)], check=True, timeout=60
    )


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the API ended while starting"
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("the API was not healthy within 30 s")
