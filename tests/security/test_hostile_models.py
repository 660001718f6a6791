"""Models that try to take a secret along. dbt runs in our process, so its environment and its objects are in reach."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from flows.models.environment import PASSWORD_VARIABLE, dbt_environment
from flows.models.project import DBT_PROJECT, run_dbt
from flows.models.project_files import refuse_outside_files
from flows.values.errors import DeclarationError
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.kinds.conformance.forking import run
from tests.security.hostile_models import MARK, PLANTED, REACHES, SHOWN, write

pytestmark = pytest.mark.xdist_group("hostile_models")


@dataclass
class Tried:
    """What one build of these models left."""

    tables: Mapping[str, str]
    files: Mapping[str, str]
    printed: str
    password: str

    def leaked(self, secret: str) -> list[str]:
        """Where a secret is found."""
        everything = {**self.tables, **self.files, "printed": self.printed}
        return sorted(place for place, text in everything.items() if secret in text)


def left_by(database: TestDatabase, target: Path, printed: str) -> Tried:
    with psycopg.connect(database.url("admin")) as admin:
        names = admin.execute("select table_name from information_schema.tables where table_schema = 'staging'")
        tables = {
            str(name): str(admin.execute(f'select string_agg(t::text, chr(10)) from staging."{name}" as t').fetchone())
            for (name,) in names.fetchall()
        }
    files = {str(path.relative_to(target)): path.read_bytes().decode("latin-1")
             for path in target.rglob("*") if path.is_file()}  # fmt: skip
    return Tried(tables, files, printed, database.cluster.passwords["medallion_transformer"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "project"
    write(folder)
    return folder


@pytest.fixture(scope="module")
def target(project: Path) -> Path:
    """As an earlier version of the platform left it: open to all."""
    folder = project.parent / "target"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def built(cluster: TestCluster, project: Path, target: Path) -> Iterator[tuple[Tried, dict[str, object]]]:
    with fresh_warehouse(cluster) as database:
        # dbt shows its process's arguments to models, so the URL is not one of them.
        url = project.parent / "url"
        url.write_text(database.url("transformer"))
        done = run("tests.security.one_build", [str(url), str(project), str(target)], PLANTED, seconds=120)
        assert done.returncode == 0, done.stderr
        printed, _, told = done.stdout.rstrip().rpartition("\n")
        ended = json.loads(told)
        assert ended["problem"] == ""
        environment = ended.pop("environment")
        yield left_by(database, target, printed + done.stderr + json.dumps(ended)), {**ended, "values": environment}


@pytest.fixture(scope="module")
def plain(cluster: TestCluster, project: Path) -> Iterator[Tried]:
    """The control: dbt's own command line over the same models."""
    folder = project.parent / "plain"
    with fresh_warehouse(cluster) as database:
        variables = {**PLANTED, **dbt_environment(database.url("transformer")), "DBT_LOG_PATH": str(folder / "logs")}
        place = ["--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(folder)]
        done = run("tests.dbt_project.one_dbt", ["build", *place], variables, seconds=120)
        yield left_by(database, folder, done.stdout + done.stderr)


def test_dbt_by_itself_would_give_them_everything(plain: Tried) -> None:
    """Else what is not found below would prove nothing."""
    for name, secret in PLANTED.items():
        assert {f"env_{name.lower()}", "manifest.json", "printed"} <= set(plain.leaked(secret)), name
    for reach in REACHES:
        assert plain.password in plain.tables[f"reach_{reach}"], reach


def test_no_variable_of_the_process_reaches_a_model(built: tuple[Tried, dict[str, object]]) -> None:
    tried, _ = built
    assert {f"env_{name.lower()}" for name in PLANTED} <= tried.tables.keys()
    assert tried.leaked(MARK) == []


def test_the_connection_s_password_is_nowhere_in_what_models_can_reach(built: tuple[Tried, dict[str, object]]) -> None:
    """Neither in a table, nor in compiled SQL, the manifest, the log, results or messages."""
    tried, ended = built
    assert tried.leaked(tried.password) == []
    nodes = ended["nodes"]
    assert isinstance(nodes, dict)
    for reach in REACHES:
        status, message = nodes[f"model.seen.reach_{reach}"]
        # An attribute that a filter may not read is undefined: an empty text.
        found = tried.tables.get(f"reach_{reach}", "")
        assert "is unsafe" in message or found.strip("(),'\"") == "", (reach, status, message, found)


def test_what_jinja_shows_whole_holds_no_secret(built: tuple[Tried, dict[str, object]]) -> None:
    tried, _ = built
    # dbt 1.12 does not show all of its context at once: that model is refused.
    assert {f"shown_{name}" for name in SHOWN} - {"shown_context"} <= tried.tables.keys()
    assert "medallion_transformer" in tried.tables["shown_target"]


def test_no_other_thread_and_no_child_process_finds_the_password_in_the_environment(
    built: tuple[Tried, dict[str, object]],
) -> None:
    tried, ended = built
    values = ended["values"]
    assert isinstance(values, list)
    assert MARK in " ".join(values), "it was watched"
    assert [value for value in values if tried.password in value] == []


def test_files_of_dbt_are_their_owner_s_alone(built: tuple[Tried, dict[str, object]], target: Path) -> None:
    """Under umask 0, in a folder that was open; and the process has its own umask again."""
    assert built[1]["umask"] == 0
    paths = [target, *target.rglob("*")]
    assert any(path.suffix == ".sql" for path in paths)
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


@pytest.mark.long
def test_the_password_s_own_variable_may_not_be_named_by_a_model(warehouse: TestDatabase, tmp_path: Path) -> None:
    project = small(tmp_path, model=f"select '{{{{ env_var('{PASSWORD_VARIABLE}', '') }}}}' as found")
    done = run_dbt(["build"], url=warehouse.url("transformer"), target=tmp_path / "target", project=project)
    assert "Secret env vars are allowed only in profiles.yml or packages.yml" in done.problem


def small(folder: Path, model: str = "select 1 as id") -> Path:
    project = folder / "project"
    (project / "models").mkdir(parents=True)
    shutil.copy(DBT_PROJECT / "profiles.yml", project)
    (project / "dbt_project.yml").write_text("name: seen\nprofile: medallion\n")
    (project / "models/found.sql").write_text(model)
    return project


def test_a_link_to_a_file_outside_the_project_is_refused(warehouse: TestDatabase, tmp_path: Path) -> None:
    """The process's environment lies at a path that everybody knows, and dbt would read it as a model."""
    project = small(tmp_path)
    (project / "models/taken.sql").symlink_to("/proc/self/environ")
    with pytest.raises(DeclarationError, match=r"models/taken\.sql links to a target outside"):
        run_dbt(["parse"], url=warehouse.url("transformer"), target=tmp_path / "target", project=project)
    variables = {**PLANTED, **dbt_environment(warehouse.url("transformer"))}
    place = ["--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(tmp_path / "plain")]
    subprocess.run(
        [Path(sys.executable).with_name("dbt"), "parse", *place, "--log-path", str(tmp_path)],
        env={**os.environ, **variables}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert MARK in (tmp_path / "plain/manifest.json").read_text(), "else there would be nothing to refuse"


@pytest.mark.parametrize(
    "paths",
    ["model-paths: [models, /etc]", "seed-paths: ['../other']", "macro-paths: ['{{ \"/\" ~ \"etc\" }}']",
     "packages-install-path: /opt", "docs-paths: [a/../../b]"],
)  # fmt: skip
def test_paths_that_lead_out_of_the_project_are_refused(tmp_path: Path, paths: str) -> None:
    project = small(tmp_path)
    refuse_outside_files(project)
    nested = project / "dbt_packages/other"
    nested.mkdir(parents=True)
    (nested / "dbt_project.yml").write_text(f"name: other\n{paths}\n")
    with pytest.raises(DeclarationError, match="points outside of the project's folder"):
        refuse_outside_files(project)


def test_our_own_project_reads_its_own_files() -> None:
    refuse_outside_files(DBT_PROJECT)
