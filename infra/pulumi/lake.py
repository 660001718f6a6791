"""The data lake: one bucket, one prefix per purpose, versioned, encrypted, TLS only, with lifecycle rules."""

from collections.abc import Iterator, Sequence

import pulumi
from pulumi_aws import kms, s3

from infra.pulumi.naming import Component, Place
from infra.pulumi.permissions import Allow, Deny, document
from infra.pulumi.stack import LakeSettings

#: What lies under which prefix. Results serve a restart, hence days; backups are kept as long as the stack says.
LANDING, RESULTS, BACKUPS = "landing", "results", "backups"
PREFIXES = (LANDING, RESULTS, BACKUPS)
RESULT_DAYS = 30


class Lake(Component):
    """The bucket, and who may do what under which of its prefixes."""

    def __init__(self, place: Place, settings: LakeSettings, *, key: kms.Key, protect: bool) -> None:
        super().__init__("Lake", place)
        name = f"{place.prefix}-lake"
        self._key = key
        self.bucket = s3.Bucket(
            name,
            # Names of buckets are shared by everybody in the world; the account's number makes this one ours.
            bucket=pulumi.Output.concat(name, "-", place.account),
            force_destroy=False,
            opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(protect=protect)),
        )
        s3.BucketVersioning(
            name,
            bucket=self.bucket.id,
            versioning_configuration=s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=self.inside,
        )
        s3.BucketServerSideEncryptionConfiguration(
            name,
            bucket=self.bucket.id,
            rules=[
                s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                        sse_algorithm="aws:kms", kms_master_key_id=key.arn
                    ),
                    bucket_key_enabled=True,  # one call of the key for many objects, at a hundredth of the price
                )
            ],
            opts=self.inside,
        )
        closed = s3.BucketPublicAccessBlock(
            name,
            bucket=self.bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self.inside,
        )
        s3.BucketOwnershipControls(
            name,
            bucket=self.bucket.id,
            rule=s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=self.inside,
        )
        s3.BucketPolicy(
            name,
            bucket=self.bucket.id,
            policy=document(
                Deny(
                    ("s3:*",),
                    (self.bucket.arn, pulumi.Output.concat(self.bucket.arn, "/*")),
                    when={"Bool": {"aws:SecureTransport": "false"}},
                )
            ),
            # AWS refuses two changes of one bucket's access at the same time.
            opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(depends_on=[closed])),
        )
        s3.BucketLifecycleConfiguration(name, bucket=self.bucket.id, rules=_rules(settings), opts=self.inside)
        self.register_outputs({})

    def may_use(self, prefixes: Sequence[str]) -> Iterator[Allow]:
        """Statements for a role that reads and writes under these prefixes, and nowhere else."""
        yield Allow(
            ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
            [pulumi.Output.concat(self.bucket.arn, f"/{prefix}/*") for prefix in prefixes],
        )
        yield Allow(
            ("s3:ListBucket",),
            (self.bucket.arn,),
            when={"StringLike": {"s3:prefix": [f"{prefix}/*" for prefix in prefixes]}},
        )
        yield Allow(("kms:Decrypt", "kms:GenerateDataKey"), (self._key.arn,))


def _rules(settings: LakeSettings) -> list[s3.BucketLifecycleConfigurationRuleArgs]:
    def kept(prefix: str) -> s3.BucketLifecycleConfigurationRuleArgs:
        return s3.BucketLifecycleConfigurationRuleArgs(
            id=prefix,
            status="Enabled",
            filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=f"{prefix}/"),
            transitions=[
                s3.BucketLifecycleConfigurationRuleTransitionArgs(
                    days=settings.infrequent_after_days, storage_class="STANDARD_IA"
                ),
                s3.BucketLifecycleConfigurationRuleTransitionArgs(
                    days=settings.archive_after_days, storage_class="GLACIER"
                ),
            ],
            expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(days=settings.expire_after_days),
            noncurrent_version_expiration=s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                noncurrent_days=90
            ),
        )

    return [
        kept(LANDING),
        kept(BACKUPS),
        s3.BucketLifecycleConfigurationRuleArgs(
            id=RESULTS,
            status="Enabled",
            filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=f"{RESULTS}/"),
            expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(days=RESULT_DAYS),
            noncurrent_version_expiration=s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                noncurrent_days=1
            ),
        ),
        s3.BucketLifecycleConfigurationRuleArgs(
            id="torn-uploads",
            status="Enabled",
            filter=s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
            abort_incomplete_multipart_upload=s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                days_after_initiation=7
            ),
        ),
    ]
