"""Secrets Manager and S3 by prefect-aws, against moto's server, in real loads and a real flow."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.settings import PREFECT_DEFAULT_RESULT_STORAGE_BLOCK, temporary_settings
from prefect_aws import AwsCredentials, S3Bucket
from psycopg import sql
from pydantic import SecretStr

from blocks.aws import LAKE_PREFIXES, secret
from blocks.documents import save
from blocks.lookup import stored
from blocks.types import KeptToken as KeptTokenBlock
from blocks.types import SourceApi
from deployments.documents import register
from flows.access import addresses, stores
from flows.access.kept_tokens import keeper_of
from flows.ingest import ingest
from flows.kinds.registry import kind_of
from flows.sources.marketing import marketing
from flows.sources.shop import shop as declared_shop
from flows.tasks import tables
from flows.values.errors import ConfigurationError, SourceUnavailable
from flows.values.kept_token import KeptToken
from flows.values.settings import settings
from tests.conftest import TestCluster, TestDatabase
from tests.kinds.loading import rows, setting
from tests.moto_aws import Aws

# Tests that save blocks, which have fixed names, on the one server of the run: never side by side.
alone = pytest.mark.xdist_group("blocks")


def put(aws: Aws, name: str, value: object) -> None:
    """A secret's next version, as its owner or rotation puts it in."""
    client, full_name = aws.client("secretsmanager"), f"medallion-test/{name}"
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        client.put_secret_value(SecretId=full_name, SecretString=text)
    except client.exceptions.ResourceNotFoundException:
        client.create_secret(Name=full_name, SecretString=text)


@pytest.fixture
def reader(cluster: TestCluster) -> Iterator[str]:
    """A role of this test's own that may read sources, so that changing its password disturbs nobody."""
    name = f"rotated_{secrets.token_hex(4)}"
    role = sql.Identifier(name)
    cluster.connection.execute(sql.SQL("create role {} login in role medallion_extractor").format(role))
    yield name
    cluster.connection.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture
def bucket(aws: Aws) -> str:
    """An empty bucket."""
    name = f"lake-{secrets.token_hex(4)}"
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def as_rotation_writes_it(database: TestDatabase, user: str, password: str) -> dict[str, object]:
    return {
        "engine": "postgres",
        "host": "127.0.0.1",
        "port": database.cluster.port,
        "username": user,
        "password": password,
        "dbname": database.name,
        "sslmode": "disable",  # the tests' PostgreSQL is built without TLS
    }


@alone
async def test_a_load_finds_both_ends_in_secrets_manager_and_follows_a_rotated_password(
    aws: Aws,
    bucket: str,
    prefect_server: str,
    warehouse: TestDatabase,
    shop: TestDatabase,
    reader: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole way in one test: secrets → ingest on a Prefect server → rows in raw, its result in S3 → rotation."""
    monkeypatch.setenv("MEDALLION_LAKE_BUCKET", bucket)
    settings.cache_clear()
    monkeypatch.setattr(tables, "load", tables.load.with_options(retry_delay_seconds=0))

    def set_password(password: str) -> None:
        statement = sql.SQL("alter role {} password {}").format(sql.Identifier(reader), sql.Literal(password))
        shop.cluster.connection.execute(statement)

    loader = warehouse.roles["loader"]
    put(aws, "warehouse-loader", as_rotation_writes_it(warehouse, loader, warehouse.cluster.passwords[loader]))
    put(aws, "source-shop", as_rotation_writes_it(shop, reader, "first/p@ss:word"))
    set_password("first/p@ss:word")
    register()
    try:
        with temporary_settings({PREFECT_DEFAULT_RESULT_STORAGE_BLOCK: "s3-bucket/results"}):
            loaded = await ingest("shop", ["stores"])
            assert loaded[0]["counts"]["rows_inserted"] == 5
            assert len(rows(warehouse, "select * from raw_shop.stores")) == 5
            [kept] = results_in(aws, bucket)
            assert [load["counts"] for load in kept] == [load["counts"] for load in loaded]

            set_password("second")
            # Whoever rotates changes the database and the store one after the other; here nobody comes with the second.
            with setting(rotation_wait_seconds=1), pytest.raises(ConfigurationError, match="InvalidPassword"):
                await ingest("shop", ["stores"])
            put(aws, "source-shop", as_rotation_writes_it(shop, reader, "second"))
            again = await ingest("shop", ["stores"])
            assert again[0]["counts"]["rows_unchanged"] == 5
    finally:
        for name in LAKE_PREFIXES:
            Block.delete(f"s3-bucket/{name}", _sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher


def results_in(aws: Aws, bucket: str) -> list[Any]:
    """Results that Prefect stored under `results/`, decoded."""
    client = aws.client("s3")
    found = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert all(item["Key"].startswith("results/") for item in found)
    bodies = [client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found]
    return [json.loads(body) for body in bodies]


@alone
def test_the_lake_is_registered_as_blocks_that_read_and_write_under_their_prefix(
    aws: Aws, bucket: str, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_LAKE_BUCKET", bucket)
    settings.cache_clear()
    try:
        assert {(done.name, done.outcome) for done in register()} == {(name, "created") for name in LAKE_PREFIXES}
        assert {done.outcome for done in register()} == {"unchanged"}
        for prefix in LAKE_PREFIXES:
            block = S3Bucket.load(prefix, _sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher
            assert isinstance(block, S3Bucket)
            block.write_path("2026/file.csv", content=prefix.encode(), _sync=True)  # type: ignore[call-arg]
            assert block.read_path("2026/file.csv", _sync=True) == prefix.encode()  # type: ignore[call-arg]
            stored = aws.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/2026/file.csv")
            assert stored["Body"].read() == prefix.encode()
            # Each process comes with a role of its own; a key in a block would be one for all, and for ever.
            assert isinstance(block.credentials, AwsCredentials)
            assert block.credentials.aws_access_key_id is None
            assert block.credentials.aws_secret_access_key is None
    finally:
        for name in LAKE_PREFIXES:
            Block.delete(f"s3-bucket/{name}", _sync=True)  # type: ignore[call-arg]


ROTATED = {"host": "db", "username": "u", "password": "p", "dbname": "w"}


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("postgresql://u:p@db/w?sslmode=require\n", "postgresql://u:p@db/w?sslmode=require"),
        ({"url": "https://api", "key": "k"}, "https://api"),
        (ROTATED, "postgresql://u:p@db:5432/w?sslmode=verify-full"),
        (ROTATED | {"password": "a@b/c:%?", "port": 6000}, "postgresql://u:a%40b%2Fc%3A%25%3F@db:6000/w?sslmode=verify-full"),
    ],
)  # fmt: skip
def test_every_form_of_a_secret_becomes_an_address_with_tls_unless_it_says_otherwise(
    aws: Aws, value: object, address: str
) -> None:
    put(aws, "source-forms", value)
    found = secret("source-forms")
    assert found is not None
    assert found["url"] == address


@pytest.mark.parametrize("value", ['{"url": hunter2', {"password": "hunter2"}, ROTATED | {"engine": "oracle"}])
def test_a_secret_that_cannot_be_read_is_told_without_what_is_in_it(aws: Aws, value: object) -> None:
    put(aws, "source-broken", value)
    with pytest.raises(ConfigurationError, match="cannot be read") as refused:
        secret("source-broken")
    assert "hunter2" not in f"{refused.value!r} {refused.value.__cause__!r}"
    assert refused.value.where == "medallion-test/source-broken"
    assert not refused.value.retryable


def test_an_api_takes_its_key_from_its_secret_and_a_name_with_an_underscore_is_found(aws: Aws) -> None:
    put(aws, "source-marketing", {"url": "https://api.example.com", "key": "hunter2"})
    found = kind_of(marketing).address(marketing)
    assert (found.base_url, found.key) == ("https://api.example.com", "hunter2")
    put(aws, "source-web-shop", "postgresql://u:p@db/web")
    assert stores.secret_document("source-web_shop") == {"url": "postgresql://u:p@db/web", "key": None, "user": None}


def test_the_environment_goes_before_and_an_empty_secret_leaves_the_way_to_others(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulumi makes the secrets of sources empty; until their owners fill them they say nothing."""
    aws.client("secretsmanager").create_secret(Name="medallion-test/source-empty")
    assert secret("source-empty") is None
    assert secret("source-nowhere") is None
    put(aws, "source-shop", "postgresql://kept@db/shop")
    assert kind_of(declared_shop).address(declared_shop).url == "postgresql://kept@db/shop?sslmode=verify-full"
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", "postgresql://mine@db/shop")
    assert kind_of(declared_shop).address(declared_shop).url == "postgresql://mine@db/shop?sslmode=verify-full"


def test_each_role_of_the_warehouse_has_a_secret_of_its_own(aws: Aws) -> None:
    """A task whose role may read only the loader's secret must not need the others."""
    put(aws, "warehouse-loader", "postgresql://loader@db/w")
    put(aws, "warehouse-reader", "postgresql://reader@db/w")
    assert addresses.warehouse("loader").url == "postgresql://loader@db/w?sslmode=verify-full"
    assert addresses.warehouse("reader").url == "postgresql://reader@db/w?sslmode=verify-full"


def test_a_secrets_manager_out_of_reach_is_told_and_can_be_tried_again(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="EndpointConnectionError") as refused:
        secret("source-shop")
    assert refused.value.retryable
    assert "MEDALLION_AWS_ENDPOINT_URL" in refused.value.fix


def test_without_who_we_are_it_is_said_what_to_set(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("MEDALLION_AWS_ENDPOINT_URL", f"{aws.url}/")  # another client than the cached one
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="NoCredentialsError") as refused:
        secret("source-shop")
    assert "AWS_ACCESS_KEY_ID" in refused.value.fix
    assert not refused.value.retryable


async def test_a_token_is_kept_in_the_store_of_its_credential_by_one_run_at_a_time(
    aws: Aws, warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets Manager has no locks: the warehouse, which all runs share, lends one."""
    name = f"ledger{secrets.token_hex(3)}"
    put(aws, f"source-{name}", {"url": "https://api.example.com", "key": "k", "token": "first"})
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_LOCK_WAIT_SECONDS", "0")
    settings.cache_clear()
    one, other = keeper_of(name), keeper_of(name)
    assert one.read() is None
    async with one.alone():
        with pytest.raises(SourceUnavailable, match="another run is renewing the token"):
            async with other.alone():
                pass
        for number in range(2):
            one.write(KeptToken("seed", f"hunter{number}"))
    async with other.alone():
        assert other.read() == KeptToken("seed", "hunter1")


@alone
def test_a_token_of_a_block_s_credential_is_kept_in_a_block_beside_it(prefect_server: str) -> None:
    """`medallion register` overwrites the credential's block, and must not overwrite the token."""
    name = f"ledger{secrets.token_hex(3)}"
    save(f"source-{name}", SourceApi(base_url="https://api.example.com", key=SecretStr("k"), token=SecretStr("first")))
    keeper = keeper_of(name)
    assert keeper.read() is None
    for number in range(2):
        keeper.write(KeptToken("seed", f"hunter{number}"))
    assert keeper.read() == KeptToken("seed", "hunter1")
    assert addresses.look_up("ledger", name).token == "first"
    assert "hunter" not in repr(stored(KeptTokenBlock, f"token-{name}"))
