"""Every knob, once. Each is an environment variable MEDALLION_<NAME>."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.values.errors import ConfigurationError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """What can be set without touching code. Addresses of sources are read in `connections`."""

    model_config = SettingsConfigDict(env_prefix="MEDALLION_", extra="ignore")

    home: Path = Field(PROJECT_ROOT / ".medallion", description="Where the embedded stack lives")
    warehouse_url: SecretStr | None = Field(None, description="The warehouse, as the loader; unset → block or embedded")
    warehouse_transformer_url: SecretStr | None = Field(
        None, description="The warehouse as the transformer; unset → the loader's"
    )
    warehouse_reader_url: SecretStr | None = Field(None, description="The warehouse as the reader of gold")
    warehouse_reviewer_url: SecretStr | None = Field(
        None, description="The warehouse as the role that reviews pull requests; unset → embedded, the transformer's"
    )
    admin_url: SecretStr | None = Field(
        None, description="The warehouse as an account that may create roles, for `medallion rotate` alone"
    )
    secrets_prefix: str = Field("", description="Addresses are read from AWS Secrets Manager under this; unset → not")
    lake_bucket: str = Field("", description="The S3 bucket that `medallion register` makes blocks of; unset → none")
    aws_endpoint_url: str = Field("", description="An AWS other than Amazon's, such as moto's; unset → Amazon's")
    backup_to: str = Field(
        "", description="A folder, or s3://bucket/prefix; unset → the lake's backups/, or the home's"
    )
    backup_url: SecretStr | None = Field(None, description="The cluster as a role that may replicate; unset → embedded")
    backup_key: SecretStr | None = Field(None, description="Keys of age, the newest first: backups are sealed by it")
    backup_key_file: Path | None = Field(None, description="The file that holds them")
    backup_interval_seconds: float = Field(10, gt=0, description="How often the write-ahead log is shipped as it grows")
    backup_rpo_seconds: float = Field(60, gt=0, description="The most that may be lost, for drills to judge by")
    backup_rto_seconds: float = Field(1800, gt=0, description="The longest a recovery may take, for drills to judge by")
    postgres_programs: Path | None = Field(
        None, description="The folder of pg_basebackup and its kin; unset → the wheel's"
    )
    lock_wait_seconds: float = Field(60, ge=0, description="How long a load waits for another run of the same table")
    build_lock_wait_seconds: float = Field(
        90, ge=0, description="How long a model waits for sessions that use the table it replaces"
    )
    connect_timeout_seconds: float = Field(10, gt=0, description="How long to wait for a connection")
    rotation_wait_seconds: float = Field(
        20, ge=0, description="How long a refused password is looked up again in the block or secret it came from"
    )
    statement_timeout_seconds: float = Field(3600, gt=0, description="The longest a statement may run")
    load_attempts: int = Field(4, ge=1, description="Attempts at one table when errors are transient")
    retry_first_delay_seconds: float = Field(
        2, ge=0, description="Delay before the second attempt; doubles after, with jitter"
    )
    api_wait_budget_seconds: float = Field(
        300, ge=0, description="The longest one read may wait for an API's rate limit"
    )
    api_group_seconds: float = Field(
        10, ge=0, description="Pages of an API that have landed are published together for so long"
    )
    api_group_mb: float = Field(256, ge=0, description="Pages of an API are published together up to this size")
    circuit_failures: int = Field(
        3, ge=1, description="Loads in a row that find an API out of order until it is left alone"
    )
    circuit_seconds: float = Field(60, gt=0, description="How long it is left alone first; doubles each time")
    circuit_longest_seconds: float = Field(1800, gt=0, description="The longest it is left alone")
    warehouse_parallel: int = Field(4, ge=1, description="Tables loaded at one time, over all sources")
    medium_load_mb: float = Field(
        1024, ge=0, description="Reads estimated larger are cut in chunks, so that a restart need not begin anew"
    )
    large_load_mb: float = Field(2048, ge=0, description="Reads estimated larger are shared among several readers")
    load_readers: int = Field(4, ge=1, description="Connections that read one large table at one time")
    dask_scheduler: str = Field("", description="A Dask scheduler whose workers read large tables; unset → threads")
    chunk_min_mb: float = Field(16, gt=0, description="The smallest chunk that the size may adapt to")
    chunk_max_mb: float = Field(512, gt=0, description="The largest chunk that the size may adapt to")
    chunk_seconds: float = Field(10, gt=0, description="How long a chunk is to take; its size adapts to that")
    chunk_memory_mb: float = Field(100, gt=0, description="Growth of the process's memory at which chunks are halved")
    resume_hours: float = Field(12, ge=0, description="A read interrupted longer ago than this begins anew")
    failpoint: str = Field("", description="For tests: the step at which the process kills itself")
    sentry_dsn: SecretStr | None = Field(None, description="Errors go to Sentry, scrubbed; unset → nowhere")
    openlineage_url: str = Field("", description="An HTTP API that takes OpenLineage events; unset → nowhere")
    openlineage_key: SecretStr | None = Field(None, description="Its key, sent as a bearer token")
    openlineage_file: Path | None = Field(None, description="A file that takes them too, one a line")
    openlineage_namespace: str = Field("medallion", description="The namespace of our jobs in them")
    erasure_key: SecretStr | None = Field(None, description="The secret that erased people are written down with")
    environment: str = Field("dev", description="Name of the environment, in logs and Sentry")
    promote_from_url: SecretStr | None = Field(
        None, description="The warehouse of the environment before, as its transformer, for `medallion promote`"
    )
    commit: str = Field("", description="The commit of this code, where there is no clone to ask, as in an image")
    dev_name: str = Field("", description="Whose private schemas `medallion dev` builds; unset → the account's name")
    upgrade_at_first_use: bool = Field(
        True, description="The first run of newer code upgrades schema ops; false → only `medallion migrate` does"
    )
    models_by_release: bool = Field(
        False, description="Models that changed are refused by an ordinary transform: a release brings them"
    )
    dbt_threads: int = Field(4, ge=1, description="dbt models built at one time")

    @property
    def has_backup_key(self) -> bool:
        """Whether anything says where the key of backups is."""
        return self.backup_key is not None or self.backup_key_file is not None

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        """As the embedded stack reads it: ~ expanded, made absolute."""
        return home.expanduser().resolve()


@lru_cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigurationError: a variable holds what cannot be read. The message names it, not what it holds.
    """
    try:
        return Settings()
    except ValidationError as problem:
        wrong = {f"MEDALLION_{error['loc'][0]}".upper(): error["msg"] for error in problem.errors(include_input=False)}
    error = ConfigurationError(
        "; ".join(f"{name}: {reason}" for name, reason in wrong.items()),
        where="settings",
        fix=f"correct or unset {', '.join(wrong)}; flows/values/settings.py tells what each one means",
    )
    error.exit_code = 2
    raise error
