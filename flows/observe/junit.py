"""The results of a test run from JUnit XML, as pytest and most other tools write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405 - as below

from flows.values.errors import ConfigurationError

_SHA = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True, slots=True)
class TestResults:
    """Counts of one test run, and its commit from the file's name: `junit-3f2a91c.xml`."""

    __test__ = False

    tests: int
    failed: int
    skipped: int
    commit: str | None

    def prove(self, commit: str) -> bool:
        """Whether they prove that this commit passed: some tests ran on it, and none failed."""
        return (
            self.failed == 0
            and self.tests > self.skipped
            and self.commit is not None
            and commit.startswith(self.commit)
        )


def read_test_results(path: Path) -> TestResults:
    """The file's counts, summed over its suites. JUnit XML has no field for a commit, so it is in the file's name.

    Raises:
        ConfigurationError: the file does not exist, or is not JUnit XML.
    """
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 # nosec B314 - written by one's own pipeline
    except (OSError, ElementTree.ParseError) as problem:
        raise _unreadable(path, type(problem).__name__) from None
    suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
    if not suites:
        raise _unreadable(path, "it has no testsuite")
    sums = {
        key: sum(int(suite.get(key) or 0) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    }
    named = _SHA.findall(path.stem)
    return TestResults(
        sums["tests"], sums["failures"] + sums["errors"], sums["skipped"], max(named, key=len) if named else None
    )


def _unreadable(path: Path, why: str) -> ConfigurationError:
    error = ConfigurationError(
        f"the test results cannot be read ({why})",
        where=str(path),
        fix="pass the JUnit XML of the CI run, for example from pytest --junitxml",
    )
    error.exit_code = 2
    return error
