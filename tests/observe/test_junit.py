"""Test results as evidence: every case counts, at any depth, and what contradicts itself is none."""

from pathlib import Path

import pytest

from flows.observe.junit import read_test_results
from flows.values.errors import ConfigurationError

SHA = "3f2a91c04b7d5e6f708192a3b4c5d6e7f8091a2b"
NESTED = '<testsuites tests="2"><testsuite tests="{}"><testsuite tests="2">{}</testsuite></testsuite></testsuites>'
PASSED = '<testcase name="a"/><testcase name="b"/>'


def proves(folder: Path, xml: str, name: str = "junit-3f2a91c.xml", commit: str = SHA) -> bool:
    file = folder / name
    file.write_text(xml)
    return read_test_results(file, commit).prove(commit)


@pytest.mark.parametrize(
    "xml",
    [
        f'<testsuite tests="2" failures="0" errors="0" skipped="0">{PASSED}</testsuite>',
        f'<testsuites><testsuite name="pytest" tests="2" failures="0">{PASSED}</testsuite></testsuites>',
        # Counts are optional; tools nest suites, and count those inside or do not.
        f"<testsuites><testsuite>{PASSED}</testsuite></testsuites>",
        NESTED.format(2, PASSED),
        NESTED.format(0, PASSED),
        f'<testsuite tests="3" skipped="1">{PASSED}<testcase name="c"><skipped/></testcase></testsuite>',
        # What was written to the output is no result.
        f'<testsuite tests="2">{PASSED}<system-out>failure</system-out></testsuite>',
    ],
)
def test_complete_results_without_a_failure_are_evidence(tmp_path: Path, xml: str) -> None:
    assert proves(tmp_path, xml)


FAILED = '<testcase name="c"><failure message="no"/></testcase>'


@pytest.mark.parametrize(
    "xml",
    [
        f'<testsuite tests="3" failures="1">{PASSED}{FAILED}</testsuite>',
        f'<testsuite tests="3" failures="0">{PASSED}{FAILED}</testsuite>',
        f'<testsuite tests="3">{PASSED}<testcase name="c"><error/></testcase></testsuite>',
        f'<testsuites><testsuite tests="2">{PASSED}<testsuite>{FAILED}</testsuite></testsuite></testsuites>',
        f'<testsuites><testsuite><testsuite><testsuite failures="1">{FAILED}</testsuite></testsuite></testsuite>'
        f'<testsuite tests="2">{PASSED}</testsuite></testsuites>',
        # Counts without cases, of other cases, and such as cancel each other out.
        '<testsuite tests="9" failures="0" errors="0" skipped="0"/>',
        f'<testsuite tests="900" failures="0">{PASSED}</testsuite>',
        f'<testsuites tests="900"><testsuite tests="2">{PASSED}</testsuite></testsuites>',
        f'<testsuite tests="2" failures="1">{PASSED}</testsuite>',
        f'<testsuites failures="1"><testsuite tests="2" failures="0">{PASSED}</testsuite></testsuites>',
        f'<testsuites><testsuite tests="2" failures="1">{PASSED}</testsuite><testsuite tests="0" failures="-1"/>'
        "</testsuites>",
        f'<testsuite tests="2" errors="many">{PASSED}</testsuite>',
        f'<testsuite tests="2" failures="²">{PASSED}</testsuite>',
        '<testsuite tests="1" skipped="1"><testcase name="a"><skipped/></testcase></testsuite>',
        "<testsuites><testsuite/></testsuites>",
    ],
)
def test_failures_at_any_depth_and_counts_that_do_not_fit_are_none(tmp_path: Path, xml: str) -> None:
    assert not proves(tmp_path, xml)


XML = f"<testsuite>{{}}{PASSED}</testsuite>"
PROPERTY = '<properties><property name="{}" value="{}"/></properties>'


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("junit-3f2a91c.xml", ""),
        ("junit-3F2A91C.xml", ""),
        (f"{SHA}.xml", ""),
        # A date, and the number of a run, are hex digits too.
        ("junit-20261201-3f2a91c.xml", ""),
        ("3f2a91c_1234567890.xml", ""),
        ("results.xml", PROPERTY.format("commit", SHA)),
        ("junit-20261201.xml", PROPERTY.format("git.commit", SHA[:12])),
        ("results.xml", PROPERTY.format("GIT_SHA", SHA.upper())),
    ],
)
def test_results_name_their_commit_inside_or_by_the_files_name(tmp_path: Path, name: str, inside: str) -> None:
    assert proves(tmp_path, XML.format(inside), name)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("results.xml", ""),
        ("junit-3f2a91.xml", ""),
        ("junit-20261201.xml", ""),
        ("deadbeef.xml", ""),
        ("junit-x3f2a91cx.xml", ""),
        # What is inside was written by the run; a file is soon renamed.
        ("junit-3f2a91c.xml", PROPERTY.format("commit", "0" * 40)),
        ("junit-3f2a91c.xml", PROPERTY.format("commit", SHA) + PROPERTY.format("sha", "1" * 40)),
    ],
)
def test_results_of_no_or_another_commit_are_none(tmp_path: Path, name: str, inside: str) -> None:
    assert not proves(tmp_path, XML.format(inside), name)


@pytest.mark.parametrize("text", ["", "<testsuites>", "<report/>", "<testsuites/>", "no xml"])
def test_what_is_no_junit_xml_is_refused_with_what_to_pass(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="pytest --junitxml"):
        proves(tmp_path, text)
