"""Declarations of APIs with tokens, jobs and documents: what a user would write for them, from their documentation."""

from flows.kinds.api import (
    Api,
    ApiKeyHeader,
    Csv,
    Endpoint,
    Field,
    Job,
    JwtBearer,
    NextHeader,
    OAuth2,
    Offset,
    PageNumber,
    RefreshToken,
    Since,
)


def salesforce(token_url: str, _: str = "") -> Api:
    """Accounts that changed, by Bulk API 2.0."""
    return Api("salesforce", connection="salesforce", auth=OAuth2(token_url), endpoints=[
        Endpoint(
            "accounts", path="/services/data/v61.0/jobs/query/{job}/results", key="Id",
            cursor=Since("query", field="SystemModstamp", column="system_modstamp"),
            format=Csv(count_header="Sforce-NumberOfRecords"),
            pagination=NextHeader("Sforce-Locator", parameter="locator", last="null"),
            page_size=40, page_size_parameter="maxRecords",
            job=Job(
                create="/services/data/v61.0/jobs/query", poll="/services/data/v61.0/jobs/query/{job}",
                body={"operation": "query", "query": "SELECT Id, Name, SystemModstamp FROM Account "
                      "WHERE SystemModstamp >= {since}"},
                first="1970-01-01T00:00:00Z", state="state", done=("JobComplete",), failed=("Failed", "Aborted"),
                total="numberRecordsProcessed",
            ),
        ),
    ])  # fmt: skip


def selling_partner(token_url: str, store: str) -> Api:
    """Orders that changed, as a flat file."""
    return Api("amazon", connection="amazon", stores=(store,),
        auth=RefreshToken(token_url, client="body", sent_as=ApiKeyHeader("x-amz-access-token")), endpoints=[
        Endpoint(
            "orders", path="/reports/2021-06-30/documents/{result}", key="amazon-order-id",
            cursor=Since("dataStartTime", field="last-updated-date", column="last_updated"),
            format=Csv(delimiter="\t", quote="", encoding="cp1252"),
            job=Job(
                create="/reports/2021-06-30/reports", poll="/reports/2021-06-30/reports/{job}", id="reportId",
                body={"reportType": "GET_FLAT_FILE_ALL_ORDERS_DATA_BY_LAST_UPDATE_GENERAL", "marketplaceIds": ["A1"]},
                state="processingStatus", done=("DONE",), failed=("FATAL", "CANCELLED"),
                result="reportDocumentId", download="url",
            ),
        ),
    ])  # fmt: skip


def xero(token_url: str, _: str = "") -> Api:
    """Invoices; the refresh token is another one after each use."""
    tenant = (("Xero-Tenant-Id", "5a1b"),)
    return Api("xero", connection="xero", auth=RefreshToken(token_url), headers=tenant, endpoints=[
        Endpoint(
            "invoices", path="/api.xro/2.0/Invoices", records="Invoices", key="InvoiceID",
            pagination=PageNumber(pages="pagination.pageCount"), total="pagination.itemCount",
            page_size=20, page_size_parameter="pageSize",
        ),
    ])  # fmt: skip


def google_analytics(token_url: str, _: str = "") -> Api:
    """Sessions by day and country, read as a service account."""
    scope = "https://www.googleapis.com/auth/analytics.readonly"
    return Api("ga4", connection="ga4", auth=JwtBearer(token_url, scope=scope), endpoints=[
        Endpoint(
            "daily", path="/v1beta/properties/1234:runReport", records="rows", total="rowCount", may_be_absent=True,
            body={"dateRanges": [{"startDate": "2024-01-01", "endDate": "today"}],
                  "dimensions": [{"name": "date"}, {"name": "country"}], "metrics": [{"name": "sessions"}]},
            key=(Field("date", at="dimensionValues.0.value"), Field("country", at="dimensionValues.1.value")),
            cursor=Since("dateRanges.0.startDate", field="dimensionValues.0.value", form="date", column="day"),
            pagination=Offset(overlap=0), page_size=10,
        ),
    ])  # fmt: skip
