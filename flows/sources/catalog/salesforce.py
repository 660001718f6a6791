"""Salesforce: accounts that changed, by query jobs of Bulk API 2.0.

MEDALLION_SOURCE_SALESFORCE_URL is https://<your domain>.my.salesforce.com; …_USER and …_KEY are the consumer key and
secret of a connected app with the client credentials flow. A query that is not `queryAll` shows no deleted records.
"""

from flows.kinds.api import Api, Csv, Endpoint, Field, Job, NextHeader, OAuth2, Since

salesforce = Api(
    "salesforce",
    connection="salesforce",
    auth=OAuth2("/services/oauth2/token"),
    schedule="10 * * * *",
    description="The sales team's CRM.",
    endpoints=[
        Endpoint(
            "accounts",
            path="/services/data/v61.0/jobs/query/{job}/results",
            key=Field("id", at="Id"),
            cursor=Since("query", field="SystemModstamp", column="changed_at", lag="10 min"),
            format=Csv(count_header="Sforce-NumberOfRecords"),
            pagination=NextHeader("Sforce-Locator", parameter="locator", last="null"),
            page_size=50000,
            page_size_parameter="maxRecords",
            job=Job(
                "/services/data/v61.0/jobs/query",
                body={
                    "operation": "query",
                    "query": "SELECT Id, Name, SystemModstamp FROM Account WHERE SystemModstamp >= {since}",
                },
                first="1970-01-01T00:00:00Z",
                poll="/services/data/v61.0/jobs/query/{job}",
                state="state",
                done=("JobComplete",),
                failed=("Failed", "Aborted"),
                total="numberRecordsProcessed",
            ),
            description="One record per account.",
        ),
    ],
)
