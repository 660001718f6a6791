"""AWS by prefect-aws: secrets in Secrets Manager that hold addresses, and the data lake as blocks of S3.

Who we are comes from where we run: the role of an ECS task, a profile, AWS_ACCESS_KEY_ID. The region is AWS's own
variable, AWS_DEFAULT_REGION. `MEDALLION_AWS_ENDPOINT_URL` points all of it at another AWS, such as moto's server.
"""

import json
from collections.abc import Iterator, Mapping
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

_ABSENT = "ResourceNotFoundException"  # no such secret, or one that nobody has put a value in
_PASSING = {"ThrottlingException", "InternalServiceError", "ServiceUnavailable", "RequestTimeout"}


def credentials() -> AwsCredentials:
    """Who we are, at the AWS in force."""
    endpoint = settings().aws_endpoint_url or None
    return AwsCredentials(aws_client_parameters=AwsClientParameters(endpoint_url=endpoint))


def secret(name: str) -> Mapping[str, str | None] | None:
    """What the secret `<MEDALLION_SECRETS_PREFIX><name>` says, as `blocks.lookup.find` says it; None without a value.

    Three forms are read, and asked for anew each time, so that a rotated password is used by the next load:

        postgresql://reader:…@host/shop?sslmode=verify-full                              an address
        {"url": "https://api.example.com", "key": "…", "user": "…"}                      an API's, key and user optional
        {"engine": "postgres", "host": …, "port": …, "username": …, "password": …, "dbname": …}   as rotation writes it;
                                                        "sslmode" may be added, and is verify-full when it is not

    Raises:
        ConfigurationError: Secrets Manager refuses, does not answer, or the secret has none of these forms.
    """
    full_name = settings().secrets_prefix + name
    try:
        kept = AwsSecret(aws_credentials=credentials(), secret_name=full_name).read_secret(_sync=True)
    except ClientError as problem:
        code = str(problem.response.get("Error", {}).get("Code"))
        if code == _ABSENT:
            return None
        raise ConfigurationError(
            f"Secrets Manager answered {code}",
            where=full_name,
            fix="let the role of this task read the secret and use its key"
            if code not in _PASSING
            else "wait: Secrets Manager is busy",
            retryable=code in _PASSING,
        ) from None
    except (BotoCoreError, ValueError) as problem:  # ValueError: an endpoint that is no URL
        kind = type(problem).__name__
        raise ConfigurationError(
            f"Secrets Manager cannot be asked ({kind})",
            where=full_name,
            fix="set AWS_DEFAULT_REGION, and give this process a role or AWS_ACCESS_KEY_ID"
            if isinstance(problem, NoCredentialsError | NoRegionError)
            else "check the network's way to Secrets Manager, and MEDALLION_AWS_ENDPOINT_URL if it is set",
            retryable=isinstance(problem, NoConnection | HTTPClientError),
        ) from None
    text = kept.decode() if isinstance(kept, bytes) else str(kept)
    return _document(text, full_name)


def lake_blocks(bucket: str) -> Iterator[tuple[str, S3Bucket]]:
    """A block for each prefix of the lake, by name. They hold no key: each process comes with a role of its own."""
    for prefix in LAKE_PREFIXES:
        yield prefix, S3Bucket(bucket_name=bucket, bucket_folder=prefix, credentials=credentials())


def _document(text: str, where: str) -> Mapping[str, str | None]:
    if not text.lstrip().startswith("{"):
        return {"url": text.strip(), "key": None, "user": None}
    try:
        found = json.loads(text)
    except ValueError:
        raise _unreadable(where, "it begins like JSON and is none") from None
    if found.get("url"):
        return {"url": str(found["url"]), "key": found.get("key"), "user": found.get("user")}
    missing = [name for name in ("host", "username", "password", "dbname") if not found.get(name)]
    if missing or found.get("engine", "postgres") not in ("postgres", "postgresql", "aurora-postgresql"):
        raise _unreadable(where, f"it has neither url nor {', '.join(missing) or 'PostgreSQL for an engine'}")
    user, password = quote(str(found["username"]), safe=""), quote(str(found["password"]), safe="")
    place = f"{found['host']}:{found.get('port', 5432)}/{quote(str(found['dbname']), safe='')}"
    mode = found.get("sslmode", "verify-full")
    return {"url": f"postgresql://{user}:{password}@{place}?sslmode={mode}", "key": None, "user": None}


def _unreadable(where: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the secret cannot be read: {why}",
        where=where,
        fix='put in an address, or {"url": …, "key": …}, or what rotation writes: docs/aws.md shows all forms',
    )
