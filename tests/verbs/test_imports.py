"""What a process imports before it loads anything: a core's time in each of them."""

import subprocess
import sys

import pytest


def imported(statements: str, *packages: str) -> set[str]:
    program = (
        f"import sys; {statements}; print(*{{name.partition('.')[0] for name in sys.modules}} & {set(packages)!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


APIS = "from flows.kinds.registry import KINDS; KINDS['api'].resumes"


@pytest.mark.parametrize(
    ("statements", "found"), [(APIS, {"httpx"}), (f"import httpx; {APIS}", {"httpx", "click", "rich"})]
)
def test_a_load_of_an_api_does_not_import_the_command_line_of_its_http_client(statements: str, found: set[str]) -> None:
    assert imported(statements, "httpx", "click", "rich") == found
