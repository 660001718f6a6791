"""Soda contracts. Only this module imports soda, so that the engine can be replaced.

Soda alone would let bad days pass. A misspelt `treshold` is ignored, a query that breaks leaves `is_failed` false, and
a check that was never evaluated is ignored. Here a contract is validated against soda's JSON schema before it runs,
and everything except a pass or a declared warning fails the gate.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict

from flows.quality.check_messages import result_message, safe_reasons
from flows.quality.contracts import DATA_SOURCE, point_at, validate_contract
from flows.values.correlation import application_name, comment
from flows.values.errors import ConfigurationError
from flows.values.libpq import explain_libpq
from flows.values.sqlstates import CONNECTION_LOST, Answer

Outcome = Literal["passed", "warned", "failed", "error", "not_evaluated"]
Gate = Literal["raw", "gold"]

CONNECT_SECONDS = 10
_TLS_KEYS = ("sslmode", "sslcert", "sslkey", "sslrootcert")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check of one contract.

    `dataset` is schema.table, `check` its kind with the qualifier if it has one (`failed_rows.quantity_not_negative`),
    `measured` the number compared with the threshold. `message` has names, counts and thresholds, no values of rows.
    `answer` is PostgreSQL's error, if it prevented the check: then nothing is known about the data.
    """

    dataset: str
    check: str
    column: str | None
    outcome: Outcome
    measured: float | None
    message: str
    answer: Answer | None = None

    @property
    def blocks(self) -> bool:
        """Whether it fails the gate."""
        return self.outcome not in ("passed", "warned")


def verify(contracts: Sequence[Path], connection_url: str, *, gate: Gate, schema_prefix: str = "") -> list[CheckResult]:
    """Check the contracts' datasets over one connection; returns the result of each check.

    Contracts name the database of their author; the checked database is that of `connection_url`
    (postgresql://user:password@host:port/database, a socket directory as host, TLS by the query).
    `schema_prefix` is put before each contract's schema, for private and shadow schemas.

    A contract that cannot be read or verified gives one additional result with the outcome `error`.

    Raises:
        ConfigurationError: the warehouse refuses these credentials, or the database does not exist.
        WarehouseError: the warehouse does not respond.
    """
    database = _preflight(connection_url, gate)
    results: list[CheckResult] = []
    texts: list[str] = []
    for path in contracts:
        problems = validate_contract(path)
        if problems:
            results += [_contract_error(path.stem, f"{path.name}: {problem}") for problem in problems]
        else:
            texts.append(point_at(path.read_text(encoding="utf-8"), database, schema_prefix))
    if texts:
        with _own_environment():
            results += _execute(texts, connection_url)
    return results


def _preflight(url: str, gate: Gate) -> str:
    """The connected database's name. Soda would report a refused connection once per contract, with the password."""
    where = f"{gate} gate"
    try:
        name = application_name("medallion gate")
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS, application_name=name) as connection:
            return connection.info.dbname
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the warehouse's connection URL is invalid",
            where=where,
            fix="write it as postgresql://user:password@host:port/database",
        ) from None
    except psycopg.OperationalError as error:
        raise explain_libpq(error, where=where) from None


@contextmanager
def _own_environment() -> Iterator[None]:
    """No telemetry, which soda reads on import; only the system's schema for unqualified names; and no `.env`.

    Soda loads one from any parent folder, including the project's: in the middle of a run that would change the
    warehouse's connection URL.
    """
    mine = {
        "SODA_CORE_TELEMETRY_ENABLED": "false",
        "PYTHON_DOTENV_DISABLED": "true",
        "PGOPTIONS": "-c search_path=pg_catalog",
        "PGAPPNAME": application_name("medallion gate"),
    }
    before = {name: os.environ.get(name) for name in mine}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _execute(texts: Sequence[str], url: str) -> list[CheckResult]:
    # The import takes 1.0 s, so it is deferred until a gate runs.
    from soda_core.common.yaml import ContractYamlSource  # type: ignore[import-untyped]
    from soda_core.contracts.contract_verification import ContractVerificationSession  # type: ignore[import-untyped]

    with _quiet_logs():
        source = _data_source(url)
        refused = _refused_statements(source.data_source_connection.connection)
        try:
            session = ContractVerificationSession.execute(
                contract_yaml_sources=[ContractYamlSource.from_str(text) for text in texts],
                data_source_impls=[source],
            )
        except Exception as error:
            # A single contract raises, several report: soda's own distinction.
            names = [str(yaml.safe_load(text)["dataset"]).split("/", 2)[2].replace("/", ".") for text in texts]
            answer = _answer([str(error)], refused)
            message = f"soda stopped: {safe_reasons([str(error)], type(error))}"
            return [_contract_error(name, message, answer) for name in names]
        finally:
            source.close_connection()
        return [found for contract in session.contract_verification_results for found in _results_of(contract, refused)]


def _refused_statements(connection: psycopg.Connection) -> list[psycopg.Error]:
    """Collect the errors of the connection's statements from now on: soda passes on only their text."""
    refused: list[psycopg.Error] = []

    class Listening(psycopg.Cursor[Any]):
        def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
            text = f"{comment()}{query}" if isinstance(query, str) else query
            try:
                return super().execute(text, *arguments, **options)
            except psycopg.Error as problem:
                refused.append(problem)
                raise

    connection.cursor_factory = Listening
    return refused


def _answer(problems: Sequence[str], refused: Sequence[psycopg.Error]) -> Answer | None:
    """PostgreSQL's error behind a soda report, by its text."""
    for problem in refused:
        said = problem.diag.message_primary or str(problem)
        if said and any(said in text for text in problems):
            return Answer.of(problem) or CONNECTION_LOST
    return None


def _data_source(url: str) -> Any:
    """Soda's data source, built from its model and not from YAML text: YAML would expand `${…}` inside a password."""
    from soda_postgres.common.data_sources import (  # type: ignore[import-untyped]
        postgres_data_source,
        postgres_data_source_connection,
    )

    parts = conninfo_to_dict(url)
    connection: dict[str, Any] = {
        "host": parts.get("host") or "localhost",
        "port": int(parts.get("port") or 5432),
        "user": parts.get("user"),
        "password": parts.get("password") or "",
        "database": parts.get("dbname"),
        **{key: parts[key] for key in _TLS_KEYS if key in parts},
    }
    model = postgres_data_source_connection.PostgresDataSource.model_validate(
        {"type": "postgres", "name": DATA_SOURCE, "connection": connection}
    )
    source = postgres_data_source.PostgresDataSourceImpl(data_source_model=model)
    source.open_connection()
    return source


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep soda's records out of our logs: they contain queries and PostgreSQL's messages, which quote values of rows.

    Soda collects its own errors with a handler on the root logger, so disabling propagation of `soda` would make every
    engine error look like a pass. The same handler is added to `soda` itself before propagation is disabled.
    """
    from soda_core.common.logs import _RootCapturer  # type: ignore[import-untyped]

    logger = logging.getLogger("soda")
    if not any(isinstance(handler, _RootCapturer) for handler in logger.handlers):
        logger.addHandler(_RootCapturer())
    before = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.propagate, logger.level = before


def _results_of(contract: Any, refused: Sequence[psycopg.Error]) -> list[CheckResult]:
    described = contract.check_collection
    # The session does not name a contract that could not be parsed.
    dataset = ".".join([*(described.dataset_prefix or [])[-1:], described.dataset_name]) if described else "unknown"
    results = [_result_of(dataset, found) for found in contract.check_results]
    problems = [record.getMessage() for record in contract.log_records or [] if record.levelno >= logging.ERROR]
    if contract.error is not None:
        problems.append(str(contract.error))
    if problems or contract.has_errors:
        message = f"soda reported an error: {safe_reasons(problems, type(contract.error))}"
        results.append(_contract_error(dataset, message, _answer(problems, refused)))
    elif not results:
        results.append(_contract_error(dataset, "no check was run"))
    return results


def _result_of(dataset: str, found: Any) -> CheckResult:
    outcomes: dict[str, Outcome] = {"PASSED": "passed", "WARN": "warned", "FAILED": "failed"}
    check = found.check
    outcome = outcomes.get(found.outcome.name, "not_evaluated")
    measured = found.threshold_value
    return CheckResult(
        dataset=dataset,
        check=f"{check.type}.{check.qualifier}" if check.qualifier else check.type,
        column=check.column_name,
        outcome=outcome,
        measured=float(measured) if measured is not None and outcome != "not_evaluated" else None,
        message=result_message(found, outcome),
    )


def _contract_error(dataset: str, message: str, answer: Answer | None = None) -> CheckResult:
    return CheckResult(dataset, "contract", column=None, outcome="error", measured=None, message=message, answer=answer)
