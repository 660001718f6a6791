"""Issues of repositories, by GitHub's GraphQL API.

MEDALLION_SOURCE_GITHUB_URL is https://api.github.com, …_KEY a token.
"""

from flows.kinds.api import Api, Bearer, Cursor, Endpoint, Partition, Since, When

_QUERY = """
query($name: String!, $after: String, $since: DateTime) {
  repository(owner: "cli", name: $name) {
    issues(first: 100, after: $after, filterBy: {since: $since}, orderBy: {field: UPDATED_AT, direction: ASC}) {
      nodes { id number title state updatedAt } pageInfo { endCursor hasNextPage } totalCount } } }
"""
_PAGES = Cursor(
    "variables.after",
    at="data.repository.issues.pageInfo.endCursor",
    more="data.repository.issues.pageInfo.hasNextPage",
)
_ANSWERS = (
    When(body="errors.*.type=RATE_LIMITED", then="retry", after_header="X-RateLimit-Reset"),
    When(body="errors.*.type=NOT_FOUND", then="skip"),
)

github = Api(
    "github",
    connection="github",
    auth=Bearer(),
    pagination=_PAGES,
    answers=_ANSWERS,
    endpoints=[
        Endpoint(
            "issues",
            description="One record per issue of a repository.",
            path="/graphql",
            body={"query": _QUERY, "variables": {"name": "{repository}", "after": None, "since": None}},
            records="data.repository.issues.nodes",
            total="data.repository.issues.totalCount",
            partitions=(Partition("repository", ("cli", "oauth")),),
            cursor=Since("variables.since", field="updatedAt", ordered=True),
        ),
    ],
)
