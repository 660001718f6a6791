"""Models of somebody who wants the platform's secrets, as a pull request could bring them."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from flows.models.project import DBT_PROJECT
from tests.flows.front_door import Ended, medallion

MARK = "zqsecret"
#: What the environment of a run may hold besides dbt's connection.
PLANTED = {
    name: f"{MARK}-{number}"
    for number, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "MEDALLION_WAREHOUSE_URL",
         "MEDALLION_ADMIN_URL", "MEDALLION_SOURCE_SHOP_URL", "MEDALLION_SOURCE_MARKETING_KEY", "MEDALLION_SENTRY_DSN",
         "MEDALLION_ERASURE_KEY", "MEDALLION_BACKUP_KEY", "MEDALLION_DBT_PASSWORD", "PGPASSWORD", "GH_TOKEN",
         "DBT_MACRO_KEY")
    )
}  # fmt: skip
#: Expressions that give the connection's password where dbt runs by itself, as the control below shows.
REACHES = {
    "config": "ref.config.credentials.password",
    "config_printed": "ref.config.credentials",
    "config_by_filter": "[ref] | map(attribute='config.credentials.password') | first",
    "profile": "ref.config.to_profile_info(true)",
    "connection": "adapter.add_query('select 1')[0].handle.info.password",
    "connection_printed": "adapter.add_query('select 1')[0].credentials",
    "cursor": "adapter.add_query('select 1')[1].connection.info.password",
}
#: Printed whole.
SHOWN = ("target", "context", "builtins", "flags", "invocation_args_dict", "graph", "model", "adapter", "var")


def write(project: Path, names: Iterable[str] = PLANTED) -> Path:
    """A project of such models, after these variables and the connection.

    Each writes what it found into a table, its compiled SQL, the manifest and the log.
    """
    models, macros = project / "models", project / "macros"
    models.mkdir(parents=True)
    macros.mkdir()
    shutil.copy(DBT_PROJECT / "profiles.yml", project)
    told = " ".join(f"{{{{ env_var('{name}', '') }}}}" for name in names)
    (project / "dbt_project.yml").write_text(
        f'name: seen\nprofile: medallion\nmodels: {{+materialized: table}}\non-run-start: ["select $${told}$$"]\n'
    )
    (macros / "found.sql").write_text(
        "{% macro found(text) %}{% do log(text, info=true) %}{% do print(text) %}"
        "select $f${{ text }}$f$::text as found{% endmacro %}"
    )
    for name in names:
        (models / f"env_{name.lower()}.sql").write_text(f"{{{{ found(env_var('{name}', 'nothing')) }}}}")
    tries = {f"reach_{name}": expression for name, expression in REACHES.items()}
    for name, expression in {**tries, **{f"shown_{name}": name for name in SHOWN}}.items():
        text = f"{{% if execute %}}{{{{ found({expression}) }}}}{{% else %}}select 1 as found{{% endif %}}"
        (models / f"{name}.sql").write_text(text)
    (models / "described.yml").write_text(
        f'models: [{{name: shown_target, description: "{told}", config: {{meta: {{told: "{told}"}}}}}}]'
    )
    return project


def build_under_open_umask(folder: Path, variables: Mapping[str, str]) -> Ended:
    """Under the most open umask, with every variable of the run within their reach, and some more."""
    more = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "MEDALLION_SENTRY_KEY", "MEDALLION_DBT_PASSWORD"), MARK)
    project = write(folder / "project", [*variables, *more])
    umask = os.umask(0)
    try:
        return medallion(
            "transform", "--select", "seen", variables={**variables, **more, "HOSTILE_PROJECT": str(project)},
            module="tests.flows.with_hostile_models", anew=True,  # with this process's umask
        )  # fmt: skip
    finally:
        os.umask(umask)
