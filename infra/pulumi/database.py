"""PostgreSQL on RDS: encrypted, backed up, watched, reached by TLS only, ready for logical replication."""

from collections.abc import Sequence

import pulumi
from pulumi_aws import iam, kms, rds

from infra.pulumi.naming import Component, Place
from infra.pulumi.network import Group, Network
from infra.pulumi.permissions import trust
from infra.pulumi.stack import DatabaseSettings

PORT = 5432
VERSION = "17"


class Database(Component):
    """One instance. Its master password is made, kept and rotated by RDS, in Secrets Manager; nobody types it."""

    def __init__(
        self,
        place: Place,
        name: str,
        settings: DatabaseSettings,
        *,
        network: Network,
        data_key: kms.Key,
        secret_key: kms.Key,
        parameters: Sequence[rds.ParameterGroupParameterArgs],
        protect: bool,
    ) -> None:
        super().__init__("Database", place, name=name)
        self.name = name
        self.group = Group(place, name, network.vpc.id, f"PostgreSQL of {name}", self.inside)
        resource = f"{place.prefix}-{name}"
        subnets = rds.SubnetGroup(resource, subnet_ids=network.private_ids, opts=self.inside)
        group = rds.ParameterGroup(
            resource,
            family=f"postgres{VERSION}",
            parameters=[_parameter("rds.force_ssl", "1"), *parameters],
            opts=self.inside,
        )
        self.instance = rds.Instance(
            resource,
            identifier=resource,
            engine="postgres",
            engine_version=VERSION,
            instance_class=settings.instance_class,
            allocated_storage=settings.storage_gb,
            max_allocated_storage=settings.max_storage_gb,
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=data_key.arn,
            username="medallion_admin",
            manage_master_user_password=True,
            master_user_secret_kms_key_id=secret_key.arn,
            iam_database_authentication_enabled=True,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[self.group.id],
            parameter_group_name=group.name,
            publicly_accessible=False,
            port=PORT,
            ca_cert_identifier="rds-ca-rsa2048-g1",
            multi_az=settings.multi_az,
            backup_retention_period=settings.backup_days,
            backup_window="01:00-02:00",
            maintenance_window="sun:03:00-sun:04:00",
            copy_tags_to_snapshot=True,
            delete_automated_backups=not protect,
            deletion_protection=protect,
            skip_final_snapshot=not protect,
            final_snapshot_identifier=f"{resource}-final" if protect else None,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=data_key.arn,
            performance_insights_retention_period=settings.insights_days,
            monitoring_interval=60,
            monitoring_role_arn=self._monitoring_role(resource).arn,
            enabled_cloudwatch_logs_exports=["postgresql", "upgrade"],
            auto_minor_version_upgrade=True,
            apply_immediately=not protect,
            opts=pulumi.ResourceOptions.merge(self.inside, pulumi.ResourceOptions(protect=protect)),
        )
        self.address = self.instance.address
        self.master_secret_arn = self.instance.master_user_secrets.apply(lambda secrets: str(secrets[0].secret_arn))
        self.register_outputs({"address": self.address})

    def admit(self, other: Group, who: str) -> None:
        """Let a service's tasks in."""
        self.group.admit(who, other, PORT, f"{who} to PostgreSQL of {self.name}")

    def _monitoring_role(self, resource: str) -> iam.Role:
        role = iam.Role(
            f"{resource}-monitoring",
            assume_role_policy=trust("monitoring.rds.amazonaws.com", account=self.place.account),
            opts=self.inside,
        )
        iam.RolePolicyAttachment(
            f"{resource}-monitoring",
            role=role.name,
            policy_arn="arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole",
            opts=self.inside,
        )
        return role


def warehouse_parameters() -> list[rds.ParameterGroupParameterArgs]:
    """For a warehouse that may be read by its change log, and in which loads and models are seen."""
    return [
        _parameter("rds.logical_replication", "1", restart=True),
        _parameter("max_replication_slots", "20", restart=True),
        _parameter("max_wal_senders", "25", restart=True),
        # A subscriber that stays away must not fill the disk: beyond this its slot is given up.
        _parameter("max_slot_wal_keep_size", "20480"),
        _parameter("shared_preload_libraries", "pg_stat_statements,auto_explain", restart=True),
        _parameter("auto_explain.log_min_duration", "60000"),
        _parameter("log_min_duration_statement", "60000"),
        # Values of rows stand in statements, and statements in logs: parameters are left out of both.
        _parameter("log_parameter_max_length", "0"),
        _parameter("log_parameter_max_length_on_error", "0"),
        _parameter("log_lock_waits", "1"),
    ]


def prefect_parameters() -> list[rds.ParameterGroupParameterArgs]:
    """For Prefect's own database: many short statements."""
    return [
        _parameter("log_min_duration_statement", "5000"),
        _parameter("idle_in_transaction_session_timeout", "300000"),
    ]


def _parameter(name: str, value: str, *, restart: bool = False) -> rds.ParameterGroupParameterArgs:
    return rds.ParameterGroupParameterArgs(
        name=name, value=value, apply_method="pending-reboot" if restart else "immediate"
    )
