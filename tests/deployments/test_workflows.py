"""The workflows: what they may do, whom they trust, and whether what they call is there."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from flows.cli.app import app
from flows.values.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / ".github/workflows"
#: `on` is a truth value to YAML, unless it is told to read texts only.
WORKFLOWS: dict[str, Any] = {
    path.name: yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - texts only, safer than safe_load
    for path in sorted(FOLDER.glob("*.yml"))
}
#: What may be written, by job. Whatever is not here may only read.
MAY_WRITE = {
    "models.yml/review": {"pull-requests"},
    "models.yml/docs": {"pages", "id-token"},
    "image.yml/push": {"packages", "id-token", "attestations"},
    "preview.yml/preview": {"pull-requests", "id-token"},
}


def gaps(name: str, workflow: dict[str, Any]) -> Iterator[str]:
    """A line for each thing that gives a stranger, or a mistake, more than it should have."""
    if workflow.get("permissions") != {"contents": "read"}:
        yield f"{name} does not begin with reading alone"
    if {"pull_request_target", "workflow_run"} & set(workflow["on"]):
        yield f"{name} runs strangers' changes with our rights"
    alone = "concurrency" in workflow or all("concurrency" in job for job in workflow["jobs"].values())
    if not alone and name != "models.yml":  # of whose jobs the one without only writes documents
        yield f"{name} may run beside itself"
    for key, job in workflow["jobs"].items():
        where = f"{name}/{key}"
        written = {scope for scope, right in job.get("permissions", {}).items() if right == "write"}
        if not written <= MAY_WRITE.get(where, set()):
            yield f"{where} may write {', '.join(sorted(written))}"
        if "timeout-minutes" not in job:
            yield f"{where} may run for hours"
        if not re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"]):
            yield f"{where} runs on whatever is newest"
        ours = "head.repo.full_name == github.repository" in str(job.get("if"))
        if "secrets." in str(job) and not ours and "environment" not in job:
            yield f"{where} has secrets without an environment that guards them"
        for step in job["steps"]:
            used = step.get("uses", "")
            if used and not re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40}", used):
                yield f"{where} trusts a tag: {used}"
            if used.startswith("actions/checkout@") and step.get("with", {}).get("persist-credentials") != "false":
                yield f"{where} leaves a token in the clone"
            if re.search(r"\$\{\{", step.get("run", "")):
                yield f"{where} writes an expression into a script"


def test_no_workflow_gives_more_than_it_should() -> None:
    assert [line for name, workflow in WORKFLOWS.items() for line in gaps(name, workflow)] == []


Seed = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (lambda flow: flow.pop("permissions"), "does not begin with reading alone"),
        (lambda flow: flow.update(permissions="write-all"), "does not begin with reading alone"),
        (lambda flow: flow["on"].update(pull_request_target={}), "strangers' changes"),
        (lambda flow: flow["on"].update(workflow_run={}), "strangers' changes"),
        (lambda flow: flow.pop("concurrency"), "beside itself"),
        (lambda flow: flow["jobs"]["ci"].update(permissions={"contents": "write"}), "may write contents"),
        (lambda flow: flow["jobs"]["ci"].pop("timeout-minutes"), "for hours"),
        (lambda flow: flow["jobs"]["ci"].update({"runs-on": "ubuntu-latest"}), "whatever is newest"),
        (lambda flow: flow["jobs"]["dev"].pop("environment"), "without an environment"),
        (lambda flow: flow["jobs"]["ci"]["steps"][0].update(uses="actions/checkout@v5"), "trusts a tag"),
        (lambda flow: flow["jobs"]["ci"]["steps"][0].pop("with"), "leaves a token"),
        (lambda flow: flow["jobs"]["ci"]["steps"][2].update(run="echo ${{ github.head_ref }}"), "into a script"),
    ],
)
def test_a_seeded_gap_is_seen(seed: Seed, says: str) -> None:
    workflow = copy.deepcopy(WORKFLOWS["ci.yml"])
    seed(workflow)
    assert any(says in line for line in gaps("ci.yml", workflow))


def test_one_action_has_one_version_everywhere() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.yml"))
    pinned = re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40}) # v([\d.]+)$", text, re.MULTILINE)
    assert len(pinned) == text.count("uses: ")
    assert len({action for action, _, _ in pinned}) == len(set(pinned))


# -- what they call


def commands() -> Iterator[tuple[str, str]]:
    for name, workflow in WORKFLOWS.items():
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                for line in step.get("run", "").splitlines():
                    yield name, line


def missing(line: str) -> list[str]:
    """What a line of a script calls and nobody made: verbs of make, commands of medallion and their options, files."""
    targets = set(re.findall(r"^([a-z]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE))
    lacking = [f"make {verb}" for verb in re.findall(r"\bmake ([a-z]+)", line) if verb not in targets]
    for words in re.findall(r"\bmedallion ([^|;}]+)", line):
        lacking += _unknown(words.split())
    lacking += [path for path in re.findall(r"\bbash (\S+)", line) if not (PROJECT_ROOT / path).is_file()]
    lacking += [
        path
        for path in re.findall(r"(deployments/[\w./-]+)", line)
        if not (PROJECT_ROOT / path).exists() and "$" not in line
    ]
    return lacking


def _unknown(words: list[str]) -> list[str]:
    command: click.Command = typer.main.get_command(app)  # type: ignore[assignment]
    path = ["medallion"]
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return [] if words == ["--help"] else [" ".join(path)]
        path.append(words.pop(0))
        if path[-1] not in command.commands:
            return [" ".join(path)]
        command = command.commands[path[-1]]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = re.findall(r"(?:^|[\s+{])(--[a-z][a-z-]*)", " ".join(words))
    return [f"{' '.join(path)} {option}" for option in given if option not in options | {"--help"}]


def test_every_command_that_a_workflow_calls_is_there() -> None:
    assert [(name, lacking) for name, line in commands() for lacking in missing(line)] == []
    called = " ".join(line for _, line in commands())
    assert all(verb in called for verb in ("make audit", "medallion deploy", "medallion promote", ".ci/run"))


@pytest.mark.parametrize(
    "line",
    [
        "make auditt",
        "medallion depoy dev",
        "medallion deploy dev --plann",
        "medallion rollback nothing",
        'medallion deploy "$E" ${IMAGE:+--imag "$IMAGE"}',
        "bash .ci/runn",
        "kubectl kustomize deployments/kubernetes/overlay",
    ],
)
def test_a_command_that_is_not_there_is_seen(line: str) -> None:
    assert missing(line) != []


def test_what_a_promotion_asks_for_is_what_ci_keeps() -> None:
    """The name of the file is the commit's: `medallion promote` takes no other for evidence."""
    ci, promotion = (FOLDER / "ci.yml").read_text(), (FOLDER / "promotion.yml").read_text()
    assert "EVIDENCE: junit-${{ github.sha }}.xml" in ci
    assert "name: evidence-${{ github.sha }}" in ci
    assert "EVIDENCE: evidence-${{ github.sha }}" in promotion
    assert '--evidence "junit-$GITHUB_SHA.xml"' in promotion


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_every_environment_that_is_promoted_to_can_be_chosen(environment: str) -> None:
    job = WORKFLOWS["promotion.yml"]["jobs"]["promote"]
    assert environment in WORKFLOWS["promotion.yml"]["on"]["workflow_dispatch"]["inputs"]["environment"]["options"]
    assert job["environment"] == "${{ inputs.environment }}"  # GitHub asks its reviewers before the job begins


def test_zizmor_finds_nothing_and_is_awake(tmp_path: Path) -> None:
    def found(folder: Path) -> int:
        return subprocess.run(
            [str(Path(sys.executable).parent / "zizmor"), "--offline", "--quiet", "--no-progress", str(folder)],
            capture_output=True,
            check=False,
        ).returncode

    assert found(FOLDER.parent) == 0  # with dependabot.yml, whose updates must wait before they are proposed
    (tmp_path / "bad.yml").write_text(
        "on: pull_request_target\njobs:\n  a:\n    runs-on: x\n    steps:\n"
        "      - uses: actions/checkout@v4\n      - run: echo ${{ github.event.pull_request.title }}\n"
    )
    assert found(tmp_path) != 0


def test_unreviewed_models_meet_the_reviewer_s_password_alone_and_only_where_it_is_needed() -> None:
    """A variable of the workflow or the job would be in the environment of what `make install` builds, too."""
    models = WORKFLOWS["models.yml"]
    assert "secrets." not in str({key: value for key, value in models.items() if key != "jobs"})
    for job in models["jobs"].values():
        assert "secrets." not in str({key: value for key, value in job.items() if key != "steps"})
        given = {step.get("run", ""): str(step) for step in job["steps"] if "secrets." in str(step)}
        assert given
        for run, step in given.items():
            assert run.startswith((".venv/bin/medallion diff", ".venv/bin/medallion docs")), run
            assert set(re.findall(r"secrets\.(\w+)", step)) == {"MEDALLION_WAREHOUSE_REVIEWER_URL"}
