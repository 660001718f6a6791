"""`make audit`: each of its scanners sees what it is there to see, and silence is not taken for health."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from detect_secrets.settings import default_settings

from flows.values.settings import PROJECT_ROOT
from tests.deployments.audit_packages import Accepted, judged, told
from tests.deployments.audit_secrets import scanned, unknown, without_reason

#: Where the scanners are that were installed with us.
BIN = Path(sys.executable).parent
CLEAN = {"dependencies": [{"name": "httpx", "version": "0.28.1", "vulns": []}]}
WEAK = {
    "dependencies": [
        {"name": "old", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]}
    ]
}
UNKNOWN = {"dependencies": [{"name": "httpx", "skip_reason": "Dependency not found on PyPI"}]}
TODAY = date(2026, 11, 26)


def test_a_known_weakness_is_a_failure_everywhere() -> None:
    assert judged(WEAK, (), TODAY)[0] == ["old 1: PYSEC-1, mended in 2"]
    assert told(WEAK, online=False) == told(WEAK, online=True) == 1


def test_a_weakness_is_lived_with_until_its_day() -> None:
    accepted = (Accepted("CVE-1", "we do not parse XML", until=TODAY),)
    assert judged(WEAK, accepted, TODAY)[0] == []
    assert judged(WEAK, accepted, date(2026, 11, 27))[0] != []


def test_nobody_answering_is_said_and_fails_where_an_answer_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """pip-audit itself ends with 0 when PyPI knows none of the packages: as if all were well."""
    for report, says in ((None, "no package was looked at"), (UNKNOWN, "nothing is known of 1 of 1 packages")):
        assert told(report, online=False) == 0
        assert says in capsys.readouterr().err
        assert told(report, online=True) == 1
    assert told(CLEAN, online=True) == 0


def test_a_secret_is_found_and_not_shown(tmp_path: Path) -> None:
    key = "AKIA" + "QYLPMN5HFIQR7XYA"
    (tmp_path / "settings.py").write_text(f'AWS = "{key}"\n')
    with default_settings():
        found = scanned(["settings.py"], root=tmp_path)
    assert unknown(found, {}) == ["settings.py:1: AWS Access Key"]
    entry = next(iter(found["settings.py"])).json()
    assert unknown(found, {"settings.py": [entry]}) == []
    assert unknown(found, {"other.py": [entry]}) != []  # the same secret elsewhere is another leak


def test_every_file_of_the_baseline_has_its_reason() -> None:
    assert without_reason(["tests/x.py", "flows/access/addresses.py"]) == []
    assert without_reason(["scripts/deploy.sh"]) == ["scripts/deploy.sh"]


@pytest.mark.parametrize(
    ("tool", "name", "text"),
    [
        ("hadolint", "Dockerfile", "FROM debian\nRUN apt-get install curl\n"),
        ("shellcheck", "run", "#!/bin/sh\nrm -rf $1/*\n"),
        ("compose-lint", "compose.yaml", "services:\n  a:\n    image: x\n    privileged: true\n"),
        ("bandit", "a.py", "import pickle\npickle.loads(input())\n"),
    ],
)
def test_each_scanner_is_awake(tool: str, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert subprocess.run([BIN / tool, tmp_path / name], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ("hadolint", "deployments/image/Dockerfile"),
        ("shellcheck", "deployments/image/build-twice"),
        ("shellcheck", ".ci/run"),
        ("compose-lint", "deployments/compose/compose.yaml"),
    ],
)
def test_a_scanner_finds_nothing_in_what_is_ours(tool: str, path: str) -> None:
    done = subprocess.run([BIN / tool, PROJECT_ROOT / path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
