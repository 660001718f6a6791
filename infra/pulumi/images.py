"""The registry of the platform's image: scanned when pushed, old ones removed."""

import json

import pulumi
from pulumi_aws import ecr, kms

from infra.pulumi.naming import Component, Place
from infra.pulumi.permissions import Allow

KEPT_IMAGES = 30


class Images(Component):
    """One repository. A tag, once pushed, means the same image for ever."""

    def __init__(self, place: Place, *, key: kms.Key, tag: str) -> None:
        super().__init__("Images", place)
        self.repository = ecr.Repository(
            place.prefix,
            name=place.prefix,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[
                ecr.RepositoryEncryptionConfigurationArgs(encryption_type="KMS", kms_key=key.arn)
            ],
            opts=self.inside,
        )
        ecr.LifecyclePolicy(
            place.prefix,
            repository=self.repository.name,
            policy=json.dumps(
                {
                    "rules": [
                        {
                            "rulePriority": 1,
                            "description": f"Keep {KEPT_IMAGES}",
                            "selection": {
                                "tagStatus": "any",
                                "countType": "imageCountMoreThan",
                                "countNumber": KEPT_IMAGES,
                            },
                            "action": {"type": "expire"},
                        }
                    ]
                }
            ),
            opts=self.inside,
        )
        self.image = pulumi.Output.concat(self.repository.repository_url, ":", tag)
        self.register_outputs({})

    def may_pull(self) -> list[Allow]:
        """Statements for a role that starts containers of this image."""
        return [
            Allow(("ecr:GetAuthorizationToken",), ("*",)),
            Allow(
                ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
                (self.repository.arn,),
            ),
        ]
