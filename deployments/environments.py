"""The environments a change passes on its way to those who read gold."""

from dataclasses import dataclass

from flows.settings import settings
from flows.spec.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment: MEDALLION_ENVIRONMENT names it, its flows run in `work_pools`, changes come from another."""

    name: str
    work_pools: tuple[str, ...]
    promotes_from: str | None = None


ENVIRONMENTS = (
    Environment("dev", work_pools=("local",)),
    Environment("staging", work_pools=("local",), promotes_from="dev"),
    Environment("production", work_pools=("local",), promotes_from="staging"),
)


def current() -> Environment:
    """The environment this process works in.

    Raises:
        ConfigurationError: MEDALLION_ENVIRONMENT names none that is declared.
    """
    name = settings().environment
    for environment in ENVIRONMENTS:
        if environment.name == name:
            return environment
    known = ", ".join(environment.name for environment in ENVIRONMENTS)
    raise ConfigurationError(
        f"no environment {name!r} is declared",
        where="MEDALLION_ENVIRONMENT",
        next_move=f"set it to one of {known}, or declare it in deployments/environments.py",
    )
