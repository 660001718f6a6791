"""`python -m tests.dbt_project.lint_sql`: sqlfluff over dbt_project, as .sqlfluff says.

Its dbt templater compiles models, and compiling asks a database which tables exist. Linting must not need a running
platform, so this starts a PostgreSQL of its own (1 s) and stops it. Arguments go to sqlfluff: `… --rules LT01`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from infra.local.postgres import Cluster
from infra.local.roles import ADMIN

ROOT = Path(__file__).parents[2]
# Of a server on the loopback that lives for seconds and holds nothing.
PASSWORD = "lint"

# Incremental models compile to their longer form only where they exist already.
HELD = """
    create schema silver;
    create table silver.basket_line ();
    create schema silver_quarantine;
    create table silver_quarantine.quality_scores_shop ();
    create schema gold;
    create table gold.fct_basket_lines ();
    create table gold.fct_promotions (week_starts_on date) partition by range (week_starts_on);
"""


def main(arguments: list[str]) -> int:
    """Lint, and return sqlfluff's exit code."""
    with tempfile.TemporaryDirectory(prefix="mdl-lint-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # PostgreSQL passes through as another account when root lints
        cluster = Cluster(home / "postgres")
        port = cluster.start(admin_password=PASSWORD).port
        try:
            with psycopg.connect(cluster.url(ADMIN, PASSWORD, port, "postgres")) as connection:
                connection.execute(HELD)
            environment = {
                # Models are rendered, and could read whatever is here.
                **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
                "MEDALLION_DBT_HOST": "127.0.0.1",
                "MEDALLION_DBT_PORT": str(port),
                "MEDALLION_DBT_USER": ADMIN,
                "DBT_ENV_SECRET_MEDALLION_PASSWORD": PASSWORD,
                "MEDALLION_DBT_DATABASE": "postgres",
                "DBT_TARGET_PATH": str(home / "target"),
                "DBT_LOG_PATH": str(home / "logs"),
                "DO_NOT_TRACK": "1",
            }
            sqlfluff = str(Path(sys.executable).with_name("sqlfluff"))
            command = [sqlfluff, "lint", "dbt_project", "--disable-progress-bar", *arguments]
            return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        finally:
            cluster.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
