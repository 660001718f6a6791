"""`python -m tests.deployments.audit_packages REQUIREMENTS [--online]`: known weaknesses of the shipped packages.

pip-audit asks PyPI. A package that PyPI does not know, or a PyPI that does not answer as itself, is no finding to
pip-audit: it ends with 0 as if all were well. Here that is told, and with `--online` it is a failure.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Accepted:
    """A weakness that is known and lived with, until a day."""

    identifier: str
    reason: str
    until: date


ACCEPTED: Sequence[Accepted] = ()


def judged(report: Mapping[str, Any], accepted: Sequence[Accepted], today: date) -> tuple[list[str], list[str]]:
    """Findings, and packages that nobody could say anything about, from pip-audit's report."""
    lived_with = {each.identifier for each in accepted if today <= each.until}
    findings, unanswered = [], []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unanswered.append(str(package["name"]))
        for weakness in package.get("vulns", []):
            if not {weakness["id"], *weakness.get("aliases", [])} & lived_with:
                mended = ", ".join(weakness.get("fix_versions", [])) or "no version"
                findings.append(f"{package['name']} {package['version']}: {weakness['id']}, mended in {mended}")
    return findings, unanswered


def ask(requirements: Path) -> Mapping[str, Any] | None:
    """pip-audit's report; None when there is none, because nobody answered."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--require-hashes"),
            *("--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        sys.stderr.write(done.stderr[-500:])
        return None
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 for a finding; and, with `--online`, for a package without an answer."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployments.audit_packages", description=__doc__)
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--online", action="store_true")
    given = parser.parse_args(arguments)
    return told(ask(given.requirements), online=given.online)


def told(report: Mapping[str, Any] | None, *, online: bool) -> int:
    """Say what was found, and how it ends."""
    if report is None:
        sys.stderr.write("the service of known weaknesses does not answer: no package was looked at\n")
        return 1 if online else 0
    findings, unanswered = judged(report, ACCEPTED, datetime.now(UTC).date())
    for line in findings:
        sys.stderr.write(line + "\n")
    if unanswered:
        some = ", ".join(unanswered[:5])
        sys.stderr.write(
            f"nothing is known of {len(unanswered)} of {len(report['dependencies'])} packages: {some}, …\n"
        )
    return 1 if findings or (online and unanswered) else 0


if __name__ == "__main__":
    sys.exit(main())
