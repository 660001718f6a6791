"""Amazon's Selling Partner API: orders that changed, as a flat-file report.

MEDALLION_SOURCE_AMAZON_URL is https://sellingpartnerapi-eu.amazon.com or that of your region; …_USER and …_KEY are the
app's client id and secret, …_TOKEN the refresh token that authorising it has returned. Put your marketplaces into the
body.
"""

from flows.kinds.api import Api, ApiKeyHeader, Csv, Endpoint, Field, Job, RefreshToken, Since

amazon = Api(
    "amazon",
    connection="amazon",
    auth=RefreshToken(
        "https://api.amazon.com/auth/o2/token", client="body", sent_as=ApiKeyHeader("x-amz-access-token")
    ),
    stores=("*.amazonaws.com",),
    schedule="50 * * * *",
    description="Orders on Amazon's marketplaces.",
    endpoints=[
        Endpoint(
            "orders",
            path="/reports/2021-06-30/documents/{result}",
            key=(Field("order_id", at="amazon-order-id"), Field("sku")),
            cursor=Since("dataStartTime", field="last-updated-date", column="updated_at", lag="1 h"),
            format=Csv(delimiter="\t", quote=""),
            job=Job(
                "/reports/2021-06-30/reports",
                body={
                    "reportType": "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL",
                    "marketplaceIds": ["A1PA6795UKMFR9"],
                },
                id="reportId",
                poll="/reports/2021-06-30/reports/{job}",
                state="processingStatus",
                done=("DONE",),
                failed=("FATAL", "CANCELLED"),
                result="reportDocumentId",
                download="url",
                every="30 s",
            ),
            description="One record per order and product.",
        ),
    ],
)
