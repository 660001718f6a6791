"""What the command line does before and while it imports Prefect."""

import gc
import subprocess
import sys

from flows.cli.terminal import importing
from tests.conftest import ROOT


def test_no_garbage_is_looked_for_while_modules_are_imported() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_whoever_has_switched_collecting_off_finds_it_so() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_imported_is_no_longer_looked_through() -> None:
    """In a process of its own: what is frozen stays so."""
    code = "import gc\nfrom flows.cli.terminal import importing\nwith importing():\n    import wave\n"
    code += "print(gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0
