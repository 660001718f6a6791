"""What the code must not do, read from its syntax: no parser that runs what it reads, no shell, no unchecked server."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from prefect import Flow, Task

import flows
from tests.source_files import ROOT, SOURCES, named, nodes

pytestmark = pytest.mark.xdist_group("sources")

#: Modules that run what they read, or read what can blow up.
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "telnetlib", "ftplib"}
#: Calls, and what is to be done instead.
FORBIDDEN_CALLS = {
    "eval": "parse it",
    "exec": "import it",
    "yaml.load": "yaml.safe_load",
    "yaml.full_load": "yaml.safe_load",
    "yaml.unsafe_load": "yaml.safe_load",
    "os.system": "subprocess.run with a list",
    "os.popen": "subprocess.run with a list",
    "tempfile.mktemp": "tempfile.mkstemp",
    "hashlib.md5": "hashlib.sha256",
    "hashlib.sha1": "hashlib.sha256",
    "ssl._create_unverified_context": "ssl.create_default_context",
    "random.choice": "secrets.choice",
    "pandas.read_pickle": "read_parquet",
}
#: XML may be written, not read.
XML_READERS = {"fromstring", "iterparse", "XMLParser", "parseString"}
#: Calls that wait for somebody, and the argument that bounds the wait.
BOUNDED = {
    "httpx.get": "timeout",
    "httpx.post": "timeout",
    "httpx.Client": "timeout",
    "httpx.AsyncClient": "timeout",
    "urllib.request.urlopen": "timeout",
    "asyncpg.connect": "timeout",
}


def name_of(node: ast.expr) -> str:
    """`a.b.c` of a call's function."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(text: str) -> Iterator[str]:
    """What in this module's text must not be there, by line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: imports {module}" for module in modules
                        if module.partition(".")[0] in FORBIDDEN_IMPORTS)  # fmt: skip
        if not isinstance(node, ast.Call):
            continue
        called, given = name_of(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
        if called.rpartition(".")[2] in XML_READERS and "xml" in text:
            yield f"{node.lineno}: {called} reads XML, whose entities may grow without end"
        if called in FORBIDDEN_CALLS:
            yield f"{node.lineno}: {called}, use {FORBIDDEN_CALLS[called]}"
        if called in BOUNDED and BOUNDED[called] not in given and None not in given:
            yield f"{node.lineno}: {called} without {BOUNDED[called]}"
        for argument, value in (("shell", True), ("verify", False), ("check_hostname", False)):
            found = given.get(argument)
            if isinstance(found, ast.Constant) and found.value is value:
                yield f"{node.lineno}: {argument}={value}"


def test_no_module_does_what_it_must_not() -> None:
    found = {named(path): list(faults(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from xml.etree import ElementTree\nElementTree.fromstring(text)",
        "eval('1')",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "subprocess.run('ls', shell=True)",
        "httpx.get(url)",
        "httpx.AsyncClient(verify=False, timeout=1)",
        "hashlib.md5(b'')",
    ],
)
def test_what_must_not_be_there_would_be_seen(text: str) -> None:
    assert len(list(faults(text))) >= 1


def test_no_check_of_who_somebody_is_hangs_on_an_assertion() -> None:
    """`python -O` leaves assertions out."""
    for path in [
        ROOT / "flows/privacy/erase.py",
        ROOT / "flows/access/rotation.py",
        *(ROOT / "flows/privacy").glob("*.py"),
    ]:
        assert not [node.lineno for node in nodes(path) if isinstance(node, ast.Assert)], path


def runnable() -> dict[str, Flow[..., object] | Task[..., object]]:
    """Every flow and task of the platform, by its place."""
    found = {}
    for module in pkgutil.walk_packages(flows.__path__, "flows."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            if isinstance(thing, Flow | Task) and thing.fn.__module__ == module.name:
                found[f"{module.name}.{name}"] = thing
    return found


def test_no_result_is_pickled() -> None:
    """A pickle runs what it holds when it is read, and results lie where more than one may write."""
    things = runnable()
    assert {"flows.ingest.ingest", "flows.transform.transform", "flows.tasks.tables.load"} <= things.keys()
    kept = {name: thing for name, thing in things.items() if thing.persist_result is not False}
    pickled = [name for name, thing in kept.items() if thing.result_serializer != "json"]
    assert pickled == []
