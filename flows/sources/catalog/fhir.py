"""A FHIR R4 server: patients, observations and consents.

MEDALLION_SOURCE_FHIR_URL is the server's base, such as https://ehr.example.com/fhir/R4; …_USER and …_KEY are the id and
secret of a client with system/*.read. Records hold health data: see docs/security.md before reading them anywhere.
"""

from flows.kinds.api import Api, Endpoint, NextUrl, OAuth2, Since

fhir = Api(
    "fhir",
    connection="fhir",
    auth=OAuth2("/oauth2/token", scope="system/Patient.read system/Observation.read system/Consent.read"),
    pagination=NextUrl("link[relation=next].url"),
    headers=(("Accept", "application/fhir+json"),),
    schedule="40 * * * *",
    description="The hospital's FHIR server.",
    endpoints=[
        Endpoint(
            "patients",
            path="/Patient",
            records="entry[].resource",
            only="resourceType=Patient",
            may_be_absent=True,
            cursor=Since("_lastUpdated", field="meta.lastUpdated", prefix="ge", lag="5 min"),
            page_size=200,
            page_size_parameter="_count",
            max_quarantined=0.01,
            description="One record per patient.",
        ),
        Endpoint(
            "observations",
            path="/Observation",
            records="entry[].resource",
            only="resourceType=Observation",
            may_be_absent=True,
            cursor=Since("_lastUpdated", field="meta.lastUpdated", prefix="ge", lag="5 min"),
            page_size=200,
            page_size_parameter="_count",
            max_quarantined=0.01,
            description="One record per measurement or finding.",
        ),
        Endpoint(
            "consents",
            path="/Consent",
            records="entry[].resource",
            only="resourceType=Consent",
            may_be_absent=True,
            cursor=Since("_lastUpdated", field="meta.lastUpdated", prefix="ge", lag="5 min"),
            page_size=200,
            page_size_parameter="_count",
            max_quarantined=0.01,
            description="One record per consent given or withdrawn by a patient.",
        ),
    ],
)
