"""Xero: invoices, with a refresh token that is replaced with every use.

MEDALLION_SOURCE_XERO_URL is https://api.xero.com; …_USER and …_KEY are the app's client id and secret, …_TOKEN the
refresh token that authorising it has returned. Put the id of your organisation into the headers. A refresh token that
is not used for 60 days expires.
"""

from flows.kinds.api import Api, Endpoint, Field, PageNumber, RefreshToken

xero = Api(
    "xero",
    connection="xero",
    auth=RefreshToken("https://identity.xero.com/connect/token"),
    headers=(("Xero-Tenant-Id", "00000000-0000-0000-0000-000000000000"),),
    pagination=PageNumber(pages="pagination.pageCount"),
    rate=1,
    schedule="30 5 * * *",
    description="The books.",
    endpoints=[
        Endpoint(
            "invoices",
            path="/api.xro/2.0/Invoices",
            key=Field("invoice_id", at="InvoiceID", type="uuid"),
            records="Invoices",
            total="pagination.itemCount",
            page_size=100,
            page_size_parameter="pageSize",
            description="One record per invoice.",
        ),
    ],
)
