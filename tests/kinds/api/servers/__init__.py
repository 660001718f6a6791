"""APIs to read: real ones of third parties, and imitations that keep to a vendor's public documentation.

| server | what it is | how pages follow | what else |
|---|---|---|---|
| `kinto` | Kinto, in memory | `Next-Page` header | `_since`, tombstones, ETag, basic auth |
| `rest_framework` | a Django REST framework app | page number, limit and offset, cursor | token auth, throttling |
| `json_server` | json-server, on Node.js | `Link` header | `X-Total-Count` |
| `shopify` | imitation of the Admin REST API | `Link` header with `page_info` | call limit, 429, access token |
| `analytics` | imitation of GA4's `runReport` | limit and offset in the body | OAuth2 from another origin, quotas |
| `fhir` | imitation of a FHIR R4 server | `link` of a Bundle | `_lastUpdated`, 410 on old pages, OperationOutcome |

Each is a context manager. The real ones run in a process of their own, the imitations in a thread of the test.
"""
