"""compose.yaml: as the specification has it, and with nothing open, unbounded or in the clear."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions

from flows.values.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "deployments/compose"
TEXT = (FOLDER / "compose.yaml").read_text()
EXAMPLE = (FOLDER / ".env.example").read_text()
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolated(text: str) -> str:
    """The file with its variables put in: defaults where it has any, and stand-ins where it insists on a value."""
    stand_ins = {"MEDALLION_IMAGE": "registry.example.com/medallion:0.1.0"}
    return _VARIABLE.sub(lambda found: found[3] if found[2] == "-" else stand_ins.get(found[1], "given"), text)


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(interpolated(TEXT))
    return loaded


def weaknesses(compose: dict[str, Any]) -> Iterator[str]:
    """A line for each service that could be had too easily, or could take too much."""
    lasting = {"database", "prefect-server", "worker", "watch"}
    for name, service in compose["services"].items():
        if str(service.get("user", "0")).partition(":")[0] in {"0", "root"}:
            yield f"{name} runs as root"
        if service.get("privileged") or service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            yield f"{name} has capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name} may gain privileges"
        if service.get("read_only") is not True:
            yield f"{name} may write to its image"
        if not {"cpus", "memory", "pids"} <= service.get("deploy", {}).get("resources", {}).get("limits", {}).keys():
            yield f"{name} has no limits"
        if name in lasting and "test" not in service.get("healthcheck", {}):
            yield f"{name} cannot be asked for its health"
        if name in lasting and service.get("restart") != "unless-stopped":
            yield f"{name} stays down when it falls"
        if re.search(r":latest$|^[^:@]+$", service["image"].rpartition("/")[2]):
            yield f"{name} takes whatever image there is today"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name} is reached from other machines"
        if any("/var/run/docker.sock" in str(volume) for volume in service.get("volumes", [])):
            yield f"{name} owns the machine"
    if compose["services"]["database"]["networks"] != ["inside"] or not compose["networks"]["inside"].get("internal"):
        yield "the database is reached from elsewhere"


def unsafe_variables(text: str) -> list[str]:
    """Variables with a secret in them that have a default, or that need not be set."""
    return [
        name
        for name, kind, _ in _VARIABLE.findall(text)
        if re.search(r"PASSWORD|AUTH|KEY|SECRET|TOKEN", name) and kind != "?"
    ]


def understood(text: str) -> None:
    """Raises ValueError for what the specification does not know."""
    merged = yaml.safe_dump(yaml.safe_load(text))  # `<<` is YAML's, and gone before the specification looks
    PyOptions().from_yaml(merged).validate()


def test_the_specification_knows_every_key() -> None:
    understood(interpolated(TEXT))


@pytest.mark.parametrize(
    "typo", [("restart:", "restartt:"), ("healthcheck:", "healthchek:"), ("secrets: [", "secret: [")]
)
def test_a_typo_would_be_found(typo: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=typo[1].partition(":")[0]):
        understood(interpolated(TEXT).replace(*typo, 1))


def test_nothing_is_open_unbounded_or_in_the_clear() -> None:
    assert list(weaknesses(document())) == []
    assert unsafe_variables(TEXT) == []


Seed = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (lambda all_: all_["worker"].update(user="root"), "worker runs as root"),
        (lambda all_: all_["worker"].pop("user"), "worker runs as root"),
        (lambda all_: all_["worker"].pop("cap_drop"), "worker has capabilities"),
        (lambda all_: all_["worker"].update(privileged=True), "worker has capabilities"),
        (lambda all_: all_["worker"].pop("security_opt"), "worker may gain privileges"),
        (lambda all_: all_["database"].pop("read_only"), "database may write to its image"),
        (lambda all_: all_["roles"]["deploy"]["resources"]["limits"].pop("memory"), "roles has no limits"),
        (lambda all_: all_["worker"].update(healthcheck={"disable": True}), "worker cannot be asked for its health"),
        (lambda all_: all_["worker"].update(restart="no"), "worker stays down when it falls"),
        (lambda all_: all_["database"].update(image="postgres:latest"), "database takes whatever image there is today"),
        (lambda all_: all_["database"].update(image="postgres"), "database takes whatever image there is today"),
        (
            lambda all_: all_["prefect-server"].update(ports=["4200:4200"]),
            "prefect-server is reached from other machines",
        ),
        (
            lambda all_: all_["database"].update(networks=["inside", "outside"]),
            "the database is reached from elsewhere",
        ),
        (lambda all_: all_["worker"].update(volumes=["/var/run/docker.sock:/s"]), "worker owns the machine"),
    ],
)
def test_a_seeded_weakness_is_seen(seed: Seed, says: str) -> None:
    weak = copy.deepcopy(document())
    seed(weak["services"])
    assert says in list(weaknesses(weak))


def test_a_password_with_a_default_is_seen() -> None:
    assert unsafe_variables("a: ${LOADER_PASSWORD:-admin}\nb: ${API_KEY}\nc: ${PREFECT_AUTH:?}\n") == [
        "LOADER_PASSWORD",
        "API_KEY",
    ]


def test_the_example_names_every_variable_and_no_password() -> None:
    named = {name for name, _, _ in _VARIABLE.findall(TEXT)} | set(re.findall(r"environment: (\w+)", TEXT))
    assert set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) == named
    assert not re.search(r"^[A-Z_]*(PASSWORD|AUTH)=.+", EXAMPLE, re.MULTILINE)


def test_the_files_with_passwords_are_kept_out_of_version_control() -> None:
    kept_out = (PROJECT_ROOT / ".gitignore").read_text().splitlines()
    assert {"deployments/compose/.env", "deployments/compose/sources.env"} <= set(kept_out)


def test_what_is_waited_for_says_when_it_is_ready() -> None:
    """A service that is merely started may refuse its first caller."""
    services = document()["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"], f"{name} waits for the health of {needed}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[needed]["restart"] == "no" if "restart" in services[needed] else True
