"""dbt's reading of a project, handed from one test to the next: of ours it takes 8 s of a core, of a small one 0.8.

dbt keeps what it read in `partial_parse.msgpack` of its target folder, and takes it up again when the project, the
variables and the connection are the same. Each test has a database of its own, so they never are. But the names of
these databases are equally long, so one can stand where another stood. dbt itself then judges whether the file holds,
by its own digests, and reads again what was edited: a wrong file costs time, nothing else.

So it is with the limits of rules: they are looked up when a test runs, and nothing that was read holds them.
"""

import hashlib
import json
import os
import pprint
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dbt.adapters.postgres.connections import PostgresCredentials
from dbt.artifacts.resources.base import FileHash
from dbt.version import __version__ as dbt_version

from flows.models.environment import dbt_environment

FILE = "partial_parse.msgpack"
_HOME = "MEDALLION_TEST_HOME"
#: Variables that no model is read by: of macros/quality_rules.sql and tests/generic/rules_within_limits.sql.
_OF_RUNS = {"rule_limits", "rule_floor"}


def hand_over(target: Path, url: str, variables: str = "{}", *, project: str = "ours") -> None:
    """Put what another test read into an empty target folder, as if it had been read for this database.

    `variables` are those of `--vars`, as JSON; `project` tells projects apart.
    """
    if (target / FILE).exists() or not (known := _folder(url, variables, project)).is_dir():
        return
    given = json.loads((known / "connection.json").read_text())
    ours = _connection(url)
    content = (known / FILE).read_bytes()
    read_with = (known / "variables.json").read_text()
    before, after = str(given["database"]).encode(), str(ours["database"]).encode()
    digests = (_digest(given).encode(), _digest(ours).encode())
    of_variables = (_digest_of_variables(read_with), _digest_of_variables(variables))
    # Texts carry their length before them: nothing else may come in their place.
    if len(before) != len(after) or digests[0] not in content or of_variables[0] not in content:
        return
    target.mkdir(parents=True, exist_ok=True)
    (target / FILE).write_bytes(content.replace(before, after).replace(*digests).replace(*of_variables))


def keep(target: Path, url: str, variables: str = "{}", *, project: str = "ours") -> None:
    """Let others have what was read into this target folder."""
    known = _folder(url, variables, project)
    if known.is_dir() or not (target / FILE).exists():
        return
    made = Path(tempfile.mkdtemp(dir=os.environ[_HOME]))
    shutil.copy(target / FILE, made)
    (made / "connection.json").write_text(json.dumps(_connection(url)))
    (made / "variables.json").write_text(variables)
    try:
        made.rename(known)
    except OSError:  # another worker was first
        shutil.rmtree(made)


def _folder(url: str, variables: str, project: str) -> Path:
    ours = {name: value for name, value in _connection(url).items() if name != "database"}
    read_by = {name: value for name, value in json.loads(variables).items() if name not in _OF_RUNS}
    told = json.dumps([project, ours, read_by], sort_keys=True).encode()
    return Path(os.environ[_HOME]) / f"parsed-{hashlib.sha256(told).hexdigest()[:16]}"


def _connection(url: str) -> dict[str, Any]:
    """What dbt's digest of a connection is made of, by profiles.yml."""
    given = dbt_environment(url)
    credentials = PostgresCredentials(
        host=given["MEDALLION_DBT_HOST"],
        port=cast("Any", int(given["MEDALLION_DBT_PORT"])),
        user=given["MEDALLION_DBT_USER"],
        password="",
        database=given["MEDALLION_DBT_DATABASE"],
        schema="staging",
        sslmode=given["MEDALLION_DBT_SSLMODE"],
        connect_timeout=10,
        search_path="pg_catalog",
        application_name="",
    )
    return dict(credentials.connection_info())


def _digest(connection: Mapping[str, Any]) -> str:
    """As dbt makes it (`ManifestLoader.build_manifest_state_check`)."""
    checksum: str = FileHash.from_contents(pprint.pformat(sorted(connection.items()))).checksum
    return checksum


def _digest_of_variables(variables: str) -> bytes:
    """As dbt makes it there, of these, our profile and its target."""
    told = [pprint.pformat(json.loads(variables)), "medallion", "warehouse", dbt_version]
    checksum: str = FileHash.from_contents("\x00".join(told)).checksum
    return checksum.encode()
