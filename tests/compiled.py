"""The tests' modules, compiled once before the workers of a run import them.

Pytest rewrites each module's assertions, and every worker would do so for itself on a clean clone, since all begin at
the same time: 5 s of a core each.
"""

import compileall
import os
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

ROOT = Path(__file__).parents[1]


def compile_once(config: pytest.Config) -> None:
    """Leave in the caches of Python and of pytest what they do not hold yet."""
    stale = [path for path in sorted(ROOT.glob("tests/**/*.py")) if is_rewritten(path) and _is_stale(path)]
    if not stale:
        return
    cores = os.cpu_count() or 1
    # Forked, so that the configuration need not be sent; this process has no threads yet.
    for child in [_fork(config, stale[first::cores]) for first in range(cores)]:
        os.waitpid(child, 0)
    compileall.compile_dir(ROOT / "tests", quiet=2)


def is_rewritten(path: Path) -> bool:
    """Whether pytest rewrites the assertions of this module: those of tests, as it finds them by default."""
    return path.name == "conftest.py" or path.name.startswith("test_") or path.name.endswith("_test.py")


def cached(path: Path) -> Path:
    """Where pytest keeps what it made of the module."""
    return rewrite.get_cache_dir(path) / (path.name[:-3] + rewrite.PYC_TAIL)


def _is_stale(path: Path) -> bool:
    try:
        with cached(path).open("rb") as file:
            header = file.read(16)
    except OSError:
        return True
    found = path.stat()
    known = (int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little"))
    return known != (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def _fork(config: pytest.Config, paths: list[Path]) -> int:
    """The process that compiles these. What it cannot compile, a worker will say why."""
    child = os.fork()
    if child:
        return child
    try:
        for path in paths:
            if rewrite.try_makedirs(cached(path).parent):
                stat, code = rewrite._rewrite_test(path, config)
                rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, stat, cached(path))
    finally:
        os._exit(0)
