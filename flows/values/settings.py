"""All settings. Each is an environment variable MEDALLION_<NAME>."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.values.errors import ConfigurationError

PROJECT_ROOT = Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Settings of this process. Connection URLs of sources are read in `flows.access.addresses`."""

    model_config = SettingsConfigDict(env_prefix="MEDALLION_", extra="ignore")

    home: Path = Field(PROJECT_ROOT / ".medallion", description="The folder of the embedded stack")
    warehouse_url: SecretStr | None = Field(
        None, description="Connection URL of the warehouse as the loader; unset → block or embedded"
    )
    warehouse_transformer_url: SecretStr | None = Field(
        None, description="Connection URL of the warehouse as the transformer; unset → the loader's"
    )
    warehouse_reader_url: SecretStr | None = Field(
        None, description="Connection URL of the warehouse as the reader of gold"
    )
    warehouse_reviewer_url: SecretStr | None = Field(
        None, description="Connection URL as the role for pull requests; unset → embedded, the transformer's"
    )
    warehouse_dashboard_url: SecretStr | None = Field(
        None, description="Connection URL of the warehouse as the role of `medallion dashboard`; unset → embedded"
    )
    warehouse_approver_url: SecretStr | None = Field(
        None,
        description="Connection URL as a member of medallion_approver, for `medallion decide`; unset → the loader's",
    )
    admin_url: SecretStr | None = Field(
        None, description="Connection URL as an account that may create roles; only for `medallion rotate`"
    )
    secrets_prefix: str = Field(
        "", description="Prefix of secrets in AWS Secrets Manager with connection URLs; unset → not used"
    )
    lake_bucket: str = Field("", description="The S3 bucket that `medallion register` creates blocks for; unset → none")
    aws_endpoint_url: str = Field("", description="An endpoint other than Amazon's, such as moto's; unset → Amazon's")
    backup_to: str = Field(
        "", description="A folder, or s3://bucket/prefix; unset → the lake's backups/, or the home's"
    )
    backup_url: SecretStr | None = Field(
        None, description="Connection URL as a role with replication; unset → embedded"
    )
    backup_key: SecretStr | None = Field(None, description="age keys, newest first: it encrypts backups")
    backup_key_file: Path | None = Field(None, description="The file with these keys")
    backup_interval_seconds: float = Field(10, gt=0, description="How often the WAL is archived as it grows")
    backup_rpo_seconds: float = Field(60, gt=0, description="Target RPO, checked by drills")
    backup_rto_seconds: float = Field(1800, gt=0, description="Target RTO, checked by drills")
    postgres_programs: Path | None = Field(
        None, description="The folder of pg_basebackup and related programs; unset → the wheel's"
    )
    lock_wait_seconds: float = Field(60, ge=0, description="How long a load waits for another run of the same table")
    table_lock_wait_seconds: float = Field(
        60, gt=0, description="How long a load waits, at either end, for a session that locks the table"
    )
    build_lock_wait_seconds: float = Field(
        90, ge=0, description="How long a model waits for sessions that lock the table it replaces"
    )
    connect_timeout_seconds: float = Field(10, gt=0, description="How long to wait for a connection")
    rotation_wait_seconds: float = Field(
        20, ge=0, description="How long to look up a refused password again in its block or secret"
    )
    statement_timeout_seconds: float = Field(3600, gt=0, description="Statement timeout")
    load_attempts: int = Field(4, ge=1, description="Attempts per table for transient errors")
    retry_first_delay_seconds: float = Field(
        2, ge=0, description="Delay before the second attempt; doubles afterwards, with jitter"
    )
    api_wait_budget_seconds: float = Field(
        300, ge=0, description="Maximum total wait of one read for an API's rate limit"
    )
    api_group_seconds: float = Field(
        10, ge=0, description="Pages of an API are collected this long before they are published"
    )
    api_group_mb: float = Field(256, ge=0, description="Pages of an API are published together up to this size")
    circuit_failures: int = Field(3, ge=1, description="Consecutive failed loads of an API before its circuit opens")
    circuit_seconds: float = Field(60, gt=0, description="How long a circuit is open at first; doubles each time")
    circuit_longest_seconds: float = Field(1800, gt=0, description="Maximum time a circuit is open")
    warehouse_parallel: int = Field(4, ge=1, description="Tables loaded in parallel, over all sources")
    medium_load_mb: float = Field(
        1024, ge=0, description="Reads estimated larger are cut into chunks, so that a restart resumes"
    )
    large_load_mb: float = Field(2048, ge=0, description="Reads estimated larger are shared among several readers")
    load_readers: int = Field(4, ge=1, description="Parallel connections that read one large table")
    dask_scheduler: str = Field("", description="A Dask scheduler whose workers read large tables; unset → threads")
    chunk_min_mb: float = Field(16, gt=0, description="The smallest chunk that the size may adapt to")
    chunk_max_mb: float = Field(512, gt=0, description="The largest chunk that the size may adapt to")
    chunk_seconds: float = Field(10, gt=0, description="Target duration of a chunk; its size adapts to it")
    chunk_memory_mb: float = Field(100, gt=0, description="Growth of the process's memory at which chunks are halved")
    profile_rows: int = Field(5_000, ge=0, description="Rows of a load that are profiled at most; 0 → none")
    row_limit: int | None = Field(
        None, ge=1, description="For development: each load reads so many rows at most; refused in production"
    )
    price_per_gb: float = Field(0, ge=0, description="Price of a gigabyte read from a source, for budgets of money")
    price_per_thousand_requests: float = Field(0, ge=0, description="Price of a thousand requests to an API")
    prices_per_thousand_requests: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="The same by source, as JSON, for those whose API has a price of its own"
    )
    price_per_hour: float = Field(0, ge=0, description="Price of an hour of loading or building")
    price_per_gb_month: float = Field(0, ge=0, description="Price of keeping a gigabyte in the warehouse for 30 days")
    price_per_day: float = Field(0, ge=0, description="Price of a day of what runs anyway, such as servers")
    cost_budget: float | None = Field(None, gt=0, description="Cost of 30 days above which an alert is sent")
    price_currency: str = Field("EUR", description="The currency of the prices, for display")
    resume_hours: float = Field(12, ge=0, description="A read interrupted longer ago than this starts over")
    failpoint: str = Field("", description="For tests: the step at which the process kills itself")
    ui_url: str = Field("", description="The Prefect UI as people reach it, for links in alerts; unset → no links")
    docs_url: str = Field("docs", description="Where these docs are published, for links in alerts")
    alert_settle_seconds: float = Field(30, ge=0, description="What ends within this time is not sent")
    alert_flapping_seconds: float = Field(
        3600, gt=0, description="An alert that is sent a fourth time within this time is flapping"
    )
    watch_seconds: float = Field(10, gt=0, description="How often `medallion watch` looks")
    watch_ping_url: SecretStr | None = Field(
        None, description="Requested after each good round of the watch: a dead man's switch; unset → none"
    )
    watch_listen: str = Field(
        "", description="PORT or HOST:PORT at which the watch serves /metrics and /healthz; unset → nowhere"
    )
    metrics_token: SecretStr | None = Field(None, description="Bearer token that /metrics requires; unset → none")
    metrics_push_url: SecretStr | None = Field(
        None, description="A group of a Prometheus Pushgateway that receives the metrics; unset → none"
    )
    metrics_objects: int = Field(
        500, ge=1, description="Of tables, models and other objects at most so many each have metrics"
    )
    watch_late_minutes: float = Field(15, gt=0, description="A scheduled flow run is late after this")
    watch_pending_minutes: float = Field(8, gt=0, description="A flow run that a worker took must begin within this")
    watch_gold_hours: float = Field(8, gt=0, description="An active transform must complete within this")
    watch_connections_percent: float = Field(85, gt=0, description="Share of the warehouse's connections in use")
    watch_disk_percent: float = Field(85, gt=0, description="Share of the warehouse's disk in use")
    watch_warehouse_gb: float | None = Field(
        None, gt=0, description="Size of the warehouse's disk, if it is on another machine; unset → not checked"
    )
    watch_transaction_minutes: float = Field(60, gt=0, description="Age of a transaction in the warehouse")
    watch_captured_hours: float = Field(24, gt=0, description="How long a captured change may wait at its source")
    watch_slot_gb: float = Field(10, gt=0, description="WAL that a replication slot of the warehouse may retain")
    watch_prefect_gb: float = Field(5, gt=0, description="Size of Prefect's database in the warehouse's cluster")
    watch_expiry_days: float = Field(21, gt=0, description="Certificates and passwords are reported so long before")
    watch_backup_hours: float = Field(36, gt=0, description="Age of the newest backup")
    watch_drill_days: float = Field(9, gt=0, description="Age of the last restore drill")
    dashboard_users: SecretStr | None = Field(
        None, description="People of the dashboard as name:roles:hash, separated by spaces; unset → a token is printed"
    )
    dashboard_hosts: str = Field(
        "", description="Names besides localhost by which a reverse proxy reaches the dashboard, separated by spaces"
    )
    dashboard_proxy_header: str = Field(
        "", description="Header in which a reverse proxy names who has logged in; unset → the dashboard's own login"
    )
    dashboard_proxy_secret: SecretStr | None = Field(
        None, description="What the reverse proxy sends in X-Medallion-Proxy, at least 16 characters"
    )
    sentry_dsn: SecretStr | None = Field(None, description="Errors go to Sentry, scrubbed; unset → nowhere")
    openlineage_url: str = Field("", description="An HTTP API that receives OpenLineage events; unset → nowhere")
    openlineage_key: SecretStr | None = Field(None, description="Its key, sent as a bearer token")
    openlineage_file: Path | None = Field(None, description="A file that receives them too, one per line")
    openlineage_namespace: str = Field("medallion", description="The namespace of jobs in the events")
    erasure_key: SecretStr | None = Field(None, description="The key for hashing erased subjects")
    mask_key: SecretStr | None = Field(None, description="The key for hashing masked columns")
    environment: str = Field("dev", description="Name of the environment, in logs, traces and Sentry")
    log_format: Literal["json", "pretty"] | None = Field(
        None, description="Form of log lines, `json` or `pretty`; unset → Prefect's own, and none at the command line"
    )
    promote_from_url: SecretStr | None = Field(
        None,
        description="Connection URL of the previous environment's warehouse as its transformer; for promotion",
    )
    commit: str = Field("", description="The commit of this code, if there is no git clone, as in an image")
    dev_name: str = Field("", description="Whose private schemas `medallion dev` builds; unset → the account's name")
    upgrade_at_first_use: bool = Field(
        True, description="The first run of newer code upgrades schema ops; false → only `medallion migrate` does"
    )
    models_by_release: bool = Field(False, description="Transforms refuse changed models: only a release brings them")
    dbt_threads: int = Field(4, ge=1, description="dbt models built in parallel")

    @property
    def has_backup_key(self) -> bool:
        """Whether a backup key is configured."""
        return self.backup_key is not None or self.backup_key_file is not None

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        """The path with ~ expanded, made absolute."""
        return home.expanduser().resolve()


@lru_cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigurationError: a variable is invalid. The message has its name, not its value.
    """
    try:
        return Settings()
    except ValidationError as problem:
        wrong = {f"MEDALLION_{error['loc'][0]}".upper(): error["msg"] for error in problem.errors(include_input=False)}
    error = ConfigurationError(
        "; ".join(f"{name}: {reason}" for name, reason in wrong.items()),
        where="settings",
        fix=f"correct or unset {', '.join(wrong)}; flows/values/settings.py describes each setting",
    )
    error.exit_code = 2
    raise error
