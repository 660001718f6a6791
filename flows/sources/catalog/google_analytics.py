"""Google Analytics 4: a daily report by channel.

MEDALLION_SOURCE_GOOGLE_ANALYTICS_URL is https://analyticsdata.googleapis.com, and …_KEY the JSON file of a service
account that may view your property; put the number of the property into the path. Figures of the last days still
change, so each load reads three days again.
"""

from flows.kinds.api import Api, Endpoint, Field, JwtBearer, Offset, Since

google_analytics = Api(
    "google_analytics",
    connection="google_analytics",
    auth=JwtBearer("https://oauth2.googleapis.com/token", scope="https://www.googleapis.com/auth/analytics.readonly"),
    pagination=Offset(overlap=0),
    schedule="20 6 * * *",
    description="Visits to the web shop, from Google Analytics 4.",
    endpoints=[
        Endpoint(
            "daily",
            path="/v1beta/properties/000000000:runReport",
            body={
                "dateRanges": [{"startDate": "2023-01-01", "endDate": "yesterday"}],
                "dimensions": [{"name": "date"}, {"name": "sessionDefaultChannelGroup"}],
                "metrics": [{"name": "sessions"}, {"name": "totalUsers"}, {"name": "conversions"}],
            },
            key=(Field("date", at="dimensionValues.0.value"), Field("channel", at="dimensionValues.1.value")),
            records="rows",
            total="rowCount",
            may_be_absent=True,
            cursor=Since(
                "dateRanges.0.startDate", field="dimensionValues.0.value", form="date", column="day", lag="3 days"
            ),
            page_size=100000,
            description="One record per day and channel.",
        ),
    ],
)
