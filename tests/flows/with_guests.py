"""`python -m tests.flows.with_guests run`: the command line of a platform that also reads a source of dlt."""

from flows import sources
from flows.kinds.dlt import DltSource, Resource

GUESTS = DltSource(
    "guests",
    build="tests.kinds.dlt.sources:guests",
    connection="guests",
    resources=[
        Resource("arrivals", key_type="bigint", cursor="changed_at", max_quarantined=1),
        Resource("departures", key_type="bigint"),
    ],
)


def main() -> None:
    """Declare the source, then do as `medallion` does."""
    sources.SOURCES = (*sources.SOURCES, GUESTS)  # type: ignore[assignment]
    from flows.cli.app import main as medallion  # what it imports reads the sources

    medallion()


if __name__ == "__main__":
    main()
