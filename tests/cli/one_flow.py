"""A flow called as from a Python shell."""


def main() -> None:
    """Transform, without a word about where Prefect is."""
    from flows.transform import transform

    transform()
