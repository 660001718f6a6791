"""The results of a test run from JUnit XML, as pytest and most other tools write it."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405 - as below

from flows.values.errors import ConfigurationError

_SHA = re.compile(r"(?<![0-9a-zA-Z])[0-9a-fA-F]{7,40}(?![0-9a-zA-Z])")
#: Names of the property of a suite that tells its commit; case, `.`, `-` and `_` do not matter.
_COMMIT_PROPERTIES = frozenset({"commit", "commitsha", "gitcommit", "gitsha", "sha", "revision"})
_COUNTS = ("tests", "failures", "errors", "skipped")


@dataclass(frozen=True, slots=True)
class TestResults:
    """Counts of one test run, by its test cases, and what speaks against it as evidence.

    `named` are the commits that the file tells: in properties of its suites, else in its name. `digest` is the SHA-256
    of its bytes.
    """

    __test__ = False

    tests: int
    failed: int
    skipped: int
    named: tuple[str, ...]
    problems: tuple[str, ...]
    digest: str

    def is_of(self, commit: str) -> bool:
        """Whether it names this commit, in full or by its first digits, and no other."""
        return bool(self.named) and all(commit.startswith(name) for name in self.named)

    def prove(self, commit: str) -> bool:
        """Whether they prove that this commit passed: complete, some tests ran on it, and none failed."""
        return not self.problems and self.failed == 0 and self.tests > self.skipped and self.is_of(commit)


def read_test_results(path: Path, commit: str = "") -> TestResults:
    """The file's cases, of suites at any depth, compared with the counts that its suites claim.

    JUnit XML has no field for a commit: it is in a property of a suite (`commit`), or in the file's name. A name may
    hold other hex digits, such as a date; the one that `commit` starts with counts, if there is one.

    Raises:
        ConfigurationError: the file does not exist, or is not JUnit XML.
    """
    from junitparser import Error, Failure, JUnitXml, JUnitXmlError, Skipped

    try:
        content = path.read_bytes()
        root = ElementTree.parse(io.BytesIO(content)).getroot()  # noqa: S314 # nosec B314 - by one's own pipeline
        suites = [each for each in root.iter() if each.tag in {"testsuites", "testsuite"}]
        claimed = [{name: each.get(name) for name in _COUNTS} for each in suites]
        inside = tuple(dict.fromkeys(_commits_inside(root)))
        read = JUnitXml.fromfile(io.BytesIO(content), parse_func=ElementTree.parse)
        cases = [case for suite in read for case in suite]
    except (OSError, ElementTree.ParseError, JUnitXmlError) as problem:
        raise _unreadable(path, type(problem).__name__) from None
    if not any(each.tag == "testsuite" for each in suites):
        raise _unreadable(path, "it has no testsuite")
    failed = sum(any(isinstance(result, Failure | Error) for result in case.result) for case in cases)
    skipped = sum(any(isinstance(result, Skipped) for result in case.result) for case in cases)
    return TestResults(
        tests=len(cases),
        failed=failed,
        skipped=skipped,
        named=inside or _named(path, commit),
        problems=tuple(_problems(claimed, len(cases), failed)),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _commits_inside(root: ElementTree.Element) -> list[str]:
    properties = [each for each in root.iter("property") if each.get("value")]
    return [
        str(each.get("value")).strip().lower()
        for each in properties
        if re.sub(r"[^a-z]", "", str(each.get("name")).lower()) in _COMMIT_PROPERTIES
    ]


def _named(path: Path, commit: str) -> tuple[str, ...]:
    named = [found.lower() for found in _SHA.findall(path.stem)]
    fitting = [name for name in named if commit.startswith(name)] if commit else []
    return tuple(fitting or named)[:1]


def _problems(claimed: list[dict[str, str | None]], cases: int, failed: int) -> list[str]:
    """What the counts of suites say against the cases that are there. Missing counts say nothing."""
    counts: list[dict[str, int]] = []
    for each in claimed:
        told = {name: text for name, text in each.items() if text is not None}
        if wrong := [
            f'{name}="{text[:20]}"' for name, text in told.items() if not text.isascii() or not text.isdigit()
        ]:
            return [f"a suite counts {', '.join(wrong)}"]
        counts.append({name: int(text) for name, text in told.items()})
    if not cases:
        return ["it lists no test cases"]
    # Counts of a suite include those of the suites inside it, or do not: the largest claim is what there must be.
    if (most := max(each.get("tests", 0) for each in counts)) > cases:
        return [f"it is not complete: a suite counts {most:,} tests, and it lists {cases:,}"]
    bad = max(each.get("failures", 0) + each.get("errors", 0) for each in counts)
    return [f"a suite counts {bad:,} failures and errors, and its cases {failed:,}"] if bad > failed else []


def _unreadable(path: Path, why: str) -> ConfigurationError:
    error = ConfigurationError(
        f"the test results cannot be read ({why})",
        where=str(path),
        fix="pass the JUnit XML of the CI run, for example from pytest --junitxml",
    )
    error.exit_code = 2
    return error
