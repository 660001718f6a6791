"""What is compiled for the workers of a run is what each would have compiled for itself."""

from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests import compiled


def test_pytest_takes_what_was_compiled_and_makes_it_anew_once_the_module_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    module = tmp_path / "tests/below/test_one.py"
    module.parent.mkdir(parents=True)
    module.write_text("def test_one() -> None:\n    assert 1 == 1\n")
    monkeypatch.setattr(compiled, "ROOT", tmp_path)

    compiled.compile_once(request.config)

    taken = rewrite._read_pyc(module, compiled.cached(module))
    assert taken is not None
    assert "@pytest_ar" in taken.co_names, "its assertions were not rewritten"
    before = compiled.cached(module).stat().st_ino
    compiled.compile_once(request.config)
    assert compiled.cached(module).stat().st_ino == before, "it was compiled again"
    module.write_text("def test_one() -> None:\n    assert 1 + 1 == 2\n")
    assert rewrite._read_pyc(module, compiled.cached(module)) is None
    compiled.compile_once(request.config)
    assert rewrite._read_pyc(module, compiled.cached(module)) is not None
