"""Soda's contracts, behind one door: nothing else imports soda, so another engine could stand here tomorrow.

Soda alone would let bad days pass. A misspelt `treshold` is ignored, a query that breaks leaves `is_failed` false, and
a check that was never evaluated counts for nothing. Here a contract is held against the JSON schema that soda ships
before it runs, and everything except a pass or a declared warning blocks the gate.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict

from flows.quality.contracts import DATA_SOURCE, point_at, validate_contract
from flows.values.errors import ConfigurationError
from flows.values.libpq import explain_libpq
from flows.values.sqlstates import CONNECTION_LOST, Answer

__all__ = ["CheckResult", "Gate", "Outcome", "validate_contract", "verify"]

Outcome = Literal["passed", "warned", "failed", "error", "not_evaluated"]
Gate = Literal["raw", "gold"]

CONNECT_SECONDS = 10
# PostgreSQL's messages may quote values of rows (`invalid input syntax for type integer: "…"`). These forms name only
# objects; any other message is withheld.
_SAFE_REASONS = re.compile(
    r"(?:column|relation|schema|function|type|operator|table) [^\n]{1,120}? does not exist"
    r"|permission denied for [a-z ]{1,20} \w{1,63}"
    r"|canceling statement due to [a-z ]{1,40}"
    r"|operator does not exist: [\w ]{1,40} [<>=!~]{1,3} [\w ]{1,40}"
)
_TLS_KEYS = ("sslmode", "sslcert", "sslkey", "sslrootcert")
# Beyond this a message would drown the table it is shown in.
_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check of one contract found.

    `dataset` is schema.table, `check` its kind with the qualifier if it has one (`failed_rows.quantity_not_negative`),
    `measured` the number compared with the threshold. `message` holds names, counts and thresholds, no values of rows.
    `answer` is PostgreSQL's, if it could not be checked because of one: that says nothing about the data.
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
        """Whether the gate stays closed because of it."""
        return self.outcome not in ("passed", "warned")


def verify(contracts: Sequence[Path], connection_url: str, *, gate: Gate, schema_prefix: str = "") -> list[CheckResult]:
    """Check the datasets that the contracts name, over one connection, and tell what each check found.

    Contracts name the database of their author; what is read is the database of `connection_url`
    (postgresql://user:password@host:port/database, a socket directory as host, TLS by the query).
    `schema_prefix` is put before each contract's schema, for developers who build under a prefix of their own.

    A contract that cannot be read or verified gives one result with the outcome `error`, beside those of its checks.

    Raises:
        ConfigurationError: the warehouse refuses these credentials or has no such database.
        WarehouseError: the warehouse does not answer.
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
    """The connected database's name. Soda would report a refused connection once per contract, password and all."""
    where = f"{gate} gate"
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            return connection.info.dbname
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the warehouse's address cannot be read",
            where=where,
            fix="write it as postgresql://user:password@host:port/database",
        ) from None
    except psycopg.OperationalError as error:
        raise explain_libpq(error, where=where) from None


@contextmanager
def _own_environment() -> Iterator[None]:
    """Telemetry off, which soda reads on import; no schema but the system's for names without one; and no `.env`.

    Soda loads one from any folder above its own, the project's among them: in the middle of a run that would move the
    warehouse to whatever address stands there.
    """
    mine = {
        "SODA_CORE_TELEMETRY_ENABLED": "false",
        "PYTHON_DOTENV_DISABLED": "true",
        "PGOPTIONS": "-c search_path=pg_catalog",
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
    # The import takes 1.0 s, so it waits until a gate is really asked.
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
            # A single contract raises where several would each report: soda's own distinction, not ours.
            names = [str(yaml.safe_load(text)["dataset"]).split("/", 2)[2].replace("/", ".") for text in texts]
            answer = _answer([str(error)], refused)
            message = f"soda stopped: {_reasons([str(error)], type(error))}"
            return [_contract_error(name, message, answer) for name in names]
        finally:
            source.close_connection()
        return [found for contract in session.contract_verification_results for found in _results_of(contract, refused)]


def _refused_statements(connection: psycopg.Connection) -> list[psycopg.Error]:
    """The errors of the connection's statements from now on: soda hands on their text alone."""
    refused: list[psycopg.Error] = []

    class Listening(psycopg.Cursor[Any]):
        def execute(self, *statement: Any, **options: Any) -> Any:
            try:
                return super().execute(*statement, **options)
            except psycopg.Error as problem:
                refused.append(problem)
                raise

    connection.cursor_factory = Listening
    return refused


def _answer(problems: Sequence[str], refused: Sequence[psycopg.Error]) -> Answer | None:
    """PostgreSQL's answer behind what soda reports, by its text."""
    for problem in refused:
        said = problem.diag.message_primary or str(problem)
        if said and any(said in text for text in problems):
            return Answer.of(problem) or CONNECTION_LOST
    return None


def _data_source(url: str) -> Any:
    """Soda's data source, made from its model and not from YAML text: YAML would expand `${…}` inside a password."""
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
    """Keep soda's records out of our logs: they hold queries and PostgreSQL's messages, which quote values of rows.

    Soda learns of its own errors from a handler on the root logger, so simply cutting `soda` off from the root would
    make every engine error look like a pass. The same handler is put on `soda` itself before it is cut off.
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
    # The session names a contract that could not even be parsed by nothing at all.
    dataset = ".".join([*(described.dataset_prefix or [])[-1:], described.dataset_name]) if described else "unknown"
    results = [_result_of(dataset, found) for found in contract.check_results]
    problems = [record.getMessage() for record in contract.log_records or [] if record.levelno >= logging.ERROR]
    if contract.error is not None:
        problems.append(str(contract.error))
    if problems or contract.has_errors:
        message = f"soda reported an error: {_reasons(problems, type(contract.error))}"
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
        message=_message(found, outcome),
    )


def _message(found: Any, outcome: Outcome) -> str:
    if outcome == "not_evaluated":
        return f"{found.check.name}: not evaluated, so nothing is known"
    if found.check.type == "schema":
        return "; ".join(_schema_differences(found)) or found.check.name
    limits = [threshold for threshold in (found.check.threshold, found.check.warn_threshold) if threshold is not None]
    bounds = " and ".join(_bounds(threshold) for threshold in limits)
    value = found.threshold_value
    # No rows, nothing to measure: the age of an empty table, the average of no values.
    measured = "nothing to measure" if value is None else f"{value:,.10g}"
    return f"{found.check.name}: {measured}" + (f" ({bounds})" if bounds else "")


def _bounds(threshold: Any) -> str:
    parts = [line for line in str(threshold).splitlines() if not line.startswith("level:")]
    return f"{', '.join(parts)}{', else a warning' if threshold.level == 'warn' else ''}"


def _schema_differences(found: Any) -> Iterator[str]:
    if found.expected_column_names_not_actual:
        yield f"missing columns: {', '.join(found.expected_column_names_not_actual)}"
    if found.actual_column_names_not_expected:
        yield f"unexpected columns: {', '.join(found.actual_column_names_not_expected)}"
    for mismatch in found.column_data_type_mismatches:
        yield f"{mismatch.column}: {mismatch.get_actual()} instead of {mismatch.get_expected()}"
    if found.are_columns_out_of_order:
        yield "columns in another order"


def _reasons(problems: Sequence[str], kind: type) -> str:
    """What may be told of an engine's errors: names of objects, never a quoted value."""
    safe = list(dict.fromkeys(form[0] for problem in problems for form in _SAFE_REASONS.finditer(problem)))
    if safe:
        return "; ".join(safe[:_REASONS_SHOWN])
    name = "" if kind is type(None) else f"{kind.__name__}; "
    return f"{name}its text may hold values of rows and is withheld; run the contract with `soda` by hand to see it"


def _contract_error(dataset: str, message: str, answer: Answer | None = None) -> CheckResult:
    return CheckResult(dataset, "contract", column=None, outcome="error", measured=None, message=message, answer=answer)
