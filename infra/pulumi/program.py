"""A stack: network and keys, storage, services, alarms.

`provision` is all that `pulumi up` runs, and all that the pages and the tests run under a recording monitor.
"""

import pulumi
from pulumi_aws import Provider, ProviderDefaultTagsArgs, ec2

from flows.sources import SOURCES
from infra.pulumi import fargate, stack
from infra.pulumi.cache import Cache
from infra.pulumi.cluster import Cluster
from infra.pulumi.credentials import Credentials
from infra.pulumi.database import Database, prefect_parameters, warehouse_parameters
from infra.pulumi.eks import Kubernetes
from infra.pulumi.images import Images
from infra.pulumi.keys import Keys
from infra.pulumi.lake import Lake
from infra.pulumi.logs import NETWORK, Logs
from infra.pulumi.naming import Place, default_tags
from infra.pulumi.network import Network
from infra.pulumi.observing import Observing
from infra.pulumi.prefect_server import PrefectServer
from infra.pulumi.roles import Roles
from infra.pulumi.scaling import Scaling
from infra.pulumi.watch import Watch
from infra.pulumi.work_pool import WorkPool

CACHE_NODE = "cache.t4g.small"


def provision() -> None:
    """Declare everything of the stack in force."""
    settings = stack.read()
    name, protect = pulumi.get_stack(), settings.production
    # A deleted secret keeps its name for so long: elsewhere than in production a stack can be made anew the same day.
    recovery_days = 30 if protect else 0
    place = Place(
        name,
        Provider(
            "aws",
            region=pulumi.Config("aws").require("region"),
            default_tags=ProviderDefaultTagsArgs(tags=default_tags(name, settings.owner)),
        ),
    )

    keys = Keys(place)
    network = Network(place, settings.network)
    logs = Logs(place, settings.logs, key=keys.logs, databases=("warehouse", "prefect"))
    images = Images(place, key=keys.data, tag=settings.image_tag)
    lake = Lake(place, settings.lake, key=keys.data, protect=protect)
    _record_traffic(place, network, logs)

    warehouse = Database(
        place,
        "warehouse",
        settings.warehouse,
        network=network,
        data_key=keys.data,
        secret_key=keys.secrets,
        parameters=warehouse_parameters(),
        protect=protect,
    )
    prefect_database = Database(
        place,
        "prefect",
        settings.prefect_database,
        network=network,
        data_key=keys.data,
        secret_key=keys.secrets,
        parameters=prefect_parameters(),
        protect=protect,
    )
    credentials = Credentials(
        place,
        sources=[source.connection for source in SOURCES if source.connection is not None],
        warehouse=warehouse,
        network=network,
        key=keys.secrets,
        rotation_days=settings.secret_rotation_days,
        recovery_days=recovery_days,
    )

    cluster = Cluster(place, key=keys.data)
    cache = None
    if settings.prefect_server.copies > 1:
        cache = Cache(
            place,
            CACHE_NODE,
            network=network,
            data_key=keys.data,
            secret_key=keys.secrets,
            recovery_days=recovery_days,
        )
    server = PrefectServer(
        place,
        settings.prefect_server,
        settings.access,
        cluster=cluster,
        network=network,
        database=prefect_database,
        cache=cache,
        credentials=credentials,
        images=images,
        logs=logs,
        protect=protect,
    )
    work_pool = WorkPool(
        place,
        settings.work_pool,
        cluster=cluster,
        network=network,
        server=server,
        warehouse=warehouse,
        lake=lake,
        credentials=credentials,
        images=images,
        logs=logs,
        keys=keys,
    )
    watch = Watch(
        place,
        settings.watch,
        cluster=cluster,
        network=network,
        server=server,
        warehouse=warehouse,
        credentials=credentials,
        images=images,
        logs=logs,
    )
    roles = Roles(
        place,
        network=network,
        warehouse=warehouse,
        prefect_database=prefect_database,
        credentials=credentials,
        images=images,
        logs=logs,
    )
    if settings.prefect_server.max_copies > settings.prefect_server.copies:
        Scaling(place, "prefect-server", settings.prefect_server, cluster=cluster.cluster, service=server.service)
    Scaling(
        place,
        "worker",
        settings.work_pool.worker,
        cluster=cluster.cluster,
        service=work_pool.worker,
        queue=work_pool.queue,
    )
    if settings.kubernetes is not None:
        Kubernetes(place, settings.kubernetes, network=network, key=keys.secrets, protect=protect)

    Observing(
        place,
        settings.budget,
        key=keys.events,
        server=server,
        work_pool=work_pool,
        watch=watch,
        cluster_name=cluster.cluster.name,
        databases={warehouse: settings.warehouse, prefect_database: settings.prefect_database},
    )

    pulumi.export("prefect_url", server.url)
    pulumi.export("image_repository", images.repository.repository_url)
    pulumi.export("lake_bucket", lake.bucket.bucket)
    pulumi.export("cluster", cluster.cluster.name)
    pulumi.export("worker_service", work_pool.worker.name)
    pulumi.export("warehouse_address", warehouse.address)
    pulumi.export("warehouse_admin_secret", warehouse.master_secret_arn)
    pulumi.export("prefect_database_address", prefect_database.address)
    pulumi.export("prefect_database_admin_secret", prefect_database.master_secret_arn)
    pulumi.export("roles_task", roles.run_task(cluster.cluster, network))
    pulumi.export("work_pool", settings.work_pool.name)
    pulumi.export("base_job_template", work_pool.template)


def _record_traffic(place: Place, network: Network, logs: Logs) -> None:
    """Who talked to whom, and whom the groups refused."""
    writer = fargate.role(
        place, "traffic", list(logs.may_write(NETWORK)), network.inside, service="vpc-flow-logs.amazonaws.com"
    )
    ec2.FlowLog(
        place.prefix,
        vpc_id=network.vpc.id,
        traffic_type="ALL",
        log_destination_type="cloud-watch-logs",
        log_destination=logs.groups[NETWORK].arn,
        iam_role_arn=writer.arn,
        opts=network.inside,
    )
