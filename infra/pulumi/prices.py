"""List prices of AWS, entered by hand and not fetched: for an estimate. AWS's own calculator has the last word.

Region eu-central-1 (Frankfurt), US dollars, on demand, without tax, free tiers, savings plans and reserved instances,
as they were at the beginning of 2025. Prices change, and this file does not know it: look one up before you rely on it.
"""

REGION = "eu-central-1"
AS_OF = "the beginning of 2025"
HOURS = 730  # of a month

#: Fargate on ARM, an hour. Spot moves with demand; this is 70 % off, the most that AWS advertises.
FARGATE_VCPU = {"FARGATE": 0.03725, "FARGATE_SPOT": 0.01118}
FARGATE_GB = {"FARGATE": 0.00409, "FARGATE_SPOT": 0.00123}

#: PostgreSQL on RDS, an hour in one zone. Two zones cost twice as much, and so does their storage.
RDS = {
    "db.t4g.micro": 0.018,
    "db.t4g.small": 0.036,
    "db.t4g.medium": 0.073,
    "db.m7g.large": 0.194,
    "db.r7g.large": 0.278,
    "db.r7g.xlarge": 0.556,
    "db.r7g.2xlarge": 1.112,
}
RDS_GP3_GB = 0.137
RDS_BACKUP_GB = 0.103  # above the size of the database, which is included

#: Valkey on ElastiCache, an hour and node.
ELASTICACHE = {"cache.t4g.micro": 0.0152, "cache.t4g.small": 0.0304, "cache.t4g.medium": 0.0608}

LOAD_BALANCER = 0.027
LOAD_BALANCER_UNIT = 0.008
NAT_GATEWAY = 0.052
NAT_GB = 0.052
INTERFACE_ENDPOINT = 0.012  # an hour and zone
ENDPOINT_GB = 0.01
PUBLIC_ADDRESS = 0.005
HOSTED_ZONE = 0.50
SECRET = 0.40
KEY = 1.00
ALARM = 0.10
DASHBOARD = 3.00
LOG_GB = 0.63  # taken in
LOG_GB_KEPT = 0.0324
INSIGHTS_METRIC = 0.30
S3_GB, S3_INFREQUENT_GB, S3_ARCHIVE_GB = 0.0245, 0.0135, 0.0045
REGISTRY_GB = 0.10
EKS_CLUSTER = 0.10
EC2 = {"m7g.large": 0.0976, "m7g.xlarge": 0.1952}
