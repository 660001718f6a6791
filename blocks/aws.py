"""AWS through prefect-aws: connection URLs in Secrets Manager, and the data lake as S3 blocks.

Credentials come from the environment: the role of an ECS task, a profile, AWS_ACCESS_KEY_ID. The region is in AWS's
variable AWS_DEFAULT_REGION. `MEDALLION_AWS_ENDPOINT_URL` sets another endpoint, such as moto's server.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, NoRegionError
from botocore.exceptions import ConnectionError as NoConnection
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, S3Bucket
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.secrets_manager import AwsSecret

from flows.values.errors import ConfigurationError
from flows.values.settings import settings

#: Prefixes of the lake, each a block of that name.
LAKE_PREFIXES = ("landing", "results", "backups")
TYPES: tuple[type[Block], ...] = (AwsCredentials, S3Bucket)

_ABSENT = "ResourceNotFoundException"  # the secret does not exist, or has no value
_PASSING = {"ThrottlingException", "InternalServiceError", "ServiceUnavailable", "RequestTimeout"}


def credentials() -> AwsCredentials:
    """The credentials for the configured AWS endpoint."""
    endpoint = settings().aws_endpoint_url or None
    return AwsCredentials(aws_client_parameters=AwsClientParameters(endpoint_url=endpoint))


def secret(name: str) -> Mapping[str, str | None] | None:
    """What the secret `<MEDALLION_SECRETS_PREFIX><name>` , in the form of `blocks.lookup.find`; None without a value.

    Three formats are supported, and read again each time, so that the next load uses a rotated password:

        postgresql://reader:…@host/shop?sslmode=verify-full                              an address
        {"url": "https://api.example.com", "key": "…", "user": "…"}                      an API's; all but url optional,
                                                        as are "token" and "certificate"
        {"engine": "postgres", "host": …, "port": …, "username": …, "password": …, "dbname": …}   as rotation writes it;
                                                        "sslmode" may be added, and is verify-full when it is not

    Raises:
        ConfigurationError: Secrets Manager refuses, does not respond, or the secret has none of these formats.
    """
    text = text_of(name)
    return None if text is None else _document(text, settings().secrets_prefix + name)


def text_of(name: str) -> str | None:
    """The text of the secret `<MEDALLION_SECRETS_PREFIX><name>`; None if it does not exist or has no value.

    Raises:
        ConfigurationError: Secrets Manager refuses or does not respond.
    """
    full_name = settings().secrets_prefix + name
    kept: Any = None
    with _errors(full_name, "access to the secret and its key"):
        kept = AwsSecret(aws_credentials=credentials(), secret_name=full_name).read_secret(_sync=True)
    return kept.decode() if isinstance(kept, bytes) else kept and str(kept)


def put(name: str, text: str) -> None:
    """Store the text as the next version of the secret `<MEDALLION_SECRETS_PREFIX><name>`; it is created if need be.

    Raises:
        ConfigurationError: Secrets Manager refuses or does not respond.
    """
    full_name = settings().secrets_prefix + name
    client = credentials().get_client("secretsmanager")
    grants = "secretsmanager:PutSecretValue and CreateSecret on it, and the use of its key"
    is_stored = False
    with _errors(full_name, grants):
        client.put_secret_value(SecretId=full_name, SecretString=text)
        is_stored = True
    if not is_stored:
        with _errors(full_name, grants):
            client.create_secret(Name=full_name, SecretString=text)


@contextmanager
def _errors(full_name: str, grants: str) -> Iterator[None]:
    """Errors of Secrets Manager as ours. A secret that does not exist ends the block, and is no error."""
    try:
        yield
    except ClientError as problem:
        code = str(problem.response.get("Error", {}).get("Code"))
        if code == _ABSENT:
            return
        raise ConfigurationError(
            f"Secrets Manager answered {code}",
            where=full_name,
            fix=f"grant the role of this task {grants}" if code not in _PASSING else "wait: Secrets Manager is busy",
            retryable=code in _PASSING,
        ) from None
    except (BotoCoreError, ValueError) as problem:  # ValueError: an endpoint that is not a URL
        kind = type(problem).__name__
        raise ConfigurationError(
            f"Secrets Manager cannot be reached ({kind})",
            where=full_name,
            fix="set AWS_DEFAULT_REGION, and give this process a role or AWS_ACCESS_KEY_ID"
            if isinstance(problem, NoCredentialsError | NoRegionError)
            else "check the network route to Secrets Manager, and MEDALLION_AWS_ENDPOINT_URL if it is set",
            retryable=isinstance(problem, NoConnection | HTTPClientError),
        ) from None


def lake_blocks(bucket: str) -> Iterator[tuple[str, S3Bucket]]:
    """A block per prefix of the lake, by name. They contain no key: each process has its own role."""
    for prefix in LAKE_PREFIXES:
        yield prefix, S3Bucket(bucket_name=bucket, bucket_folder=prefix, credentials=credentials())


def _document(text: str, where: str) -> Mapping[str, str | None]:
    if not text.lstrip().startswith("{"):
        return {"url": text.strip(), "key": None, "user": None}
    try:
        found = json.loads(text)
    except ValueError:
        raise _unreadable(where, "it starts like JSON but is invalid") from None
    if found.get("url"):
        return {"url": str(found["url"])} | {name: found.get(name) for name in ("key", "user", "token", "certificate")}
    missing = [name for name in ("host", "username", "password", "dbname") if not found.get(name)]
    if missing or found.get("engine", "postgres") not in ("postgres", "postgresql", "aurora-postgresql"):
        raise _unreadable(where, f"it has neither url nor {', '.join(missing) or 'PostgreSQL as its engine'}")
    user, password = quote(str(found["username"]), safe=""), quote(str(found["password"]), safe="")
    place = f"{found['host']}:{found.get('port', 5432)}/{quote(str(found['dbname']), safe='')}"
    mode = found.get("sslmode", "verify-full")
    return {"url": f"postgresql://{user}:{password}@{place}?sslmode={mode}", "key": None, "user": None}


def _unreadable(where: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the secret cannot be read: {why}",
        where=where,
        fix='store a connection URL, or {"url": …, "key": …}, or what rotation writes: docs/aws.md shows all',
    )
