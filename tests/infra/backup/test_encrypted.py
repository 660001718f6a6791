"""Sealed streams: what goes in comes out, or an error does, and never a part of it in silence."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrage import x25519

from infra.backup import key
from infra.backup.encrypted import decrypted, decrypted_bytes, encrypted_bytes, seal
from infra.backup.errors import Damaged, KeyRefused
from infra.backup.key import Keys
from tests.kinds.conformance.forking import ROOT

KEYS = Keys((x25519.Identity.generate(),))


def sealed(content: bytes) -> bytes:
    written = io.BytesIO()
    counted = seal(io.BytesIO(content), written, KEYS)
    assert counted.bytes == len(written.getvalue())
    return written.getvalue()


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=3_000), st.sampled_from([1, 70, 700]))
def test_what_is_sealed_is_opened_again(content: bytes, times: int) -> None:
    assert decrypted_bytes(sealed(content * times), KEYS, "x") == content * times
    assert decrypted_bytes(encrypted_bytes(content, KEYS), KEYS, "x") == content


@pytest.mark.parametrize("where", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_stream_that_was_changed_or_cut_is_refused(where: float, damage: str) -> None:
    whole = sealed(bytes(range(256)) * 1000 + b"\0" * 300_000)
    place = int(len(whole) * where)
    broken = whole[:place] + (bytes([whole[place] ^ 1]) + whole[place + 1 :] if damage == "flipped" else b"")

    with pytest.raises((Damaged, KeyRefused)):
        decrypted_bytes(broken, KEYS, "x")


def test_another_key_is_told_from_damage() -> None:
    with pytest.raises(KeyRefused, match="none of the configured keys decrypts it"):
        decrypted_bytes(sealed(b"content"), Keys((x25519.Identity.generate(),)), "x")


def test_an_error_of_whoever_gives_the_content_comes_through_as_it_is() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise KeyRefused("its own words", where="there", fix="none")

    with pytest.raises(KeyRefused, match="its own words"):
        seal(Failing(), io.BytesIO(), KEYS)


def test_a_reader_who_stops_early_is_not_left_waiting() -> None:
    with decrypted(io.BytesIO(sealed(b"x" * 5_000_000)), KEYS, "x") as plain:
        assert plain.read(1) == b"x"


_SEAL_150_MB = """
import os, resource, sys
from pyrage import x25519
from infra.backup.key import Keys
from infra.backup.encrypted import seal, decrypted
class Content:
    left = 150
    def read(self, size=-1):
        self.left -= 1
        return os.urandom(1 << 20) if self.left >= 0 else b""
keys = Keys((x25519.Identity.generate(),))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1], "wb") as file:
    seal(Content(), file, keys)
with open(sys.argv[1], "rb") as file, decrypted(file, keys, "x") as plain:
    while plain.read(1 << 20):
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_stream(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SEAL_150_MB, str(tmp_path / "sealed")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert (tmp_path / "sealed").stat().st_size > 150 << 20
    assert int(done.stdout) < 40, "MB more than before"


# -- keys


def test_a_new_key_goes_above_the_old_ones_and_all_of_them_open(tmp_path: Path) -> None:
    file = tmp_path / "backup.key"
    first = key.make(file)
    kept = encrypted_bytes(b"older", first)
    second = key.make(file)

    assert second.name != first.name
    assert second.known(first.name)
    assert decrypted_bytes(kept, second, "x") == b"older"
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyRefused):
        decrypted_bytes(encrypted_bytes(b"newer", second), first, "x")


def test_a_folder_that_is_not_there_is_made_for_the_key_and_nobody_else_may_enter_it(tmp_path: Path) -> None:
    """The first line of the page on recovery writes into /etc/medallion, which no machine has."""
    file = tmp_path / "medallion" / "backup.key"

    key.make(file)

    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "# nothing", "AGE-SECRET-KEY-1QQQQ", "a password that somebody thought would do"])
def test_what_is_no_key_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        key.parse(text, "MEDALLION_BACKUP_KEY")

    assert not text or text not in str(refused.value)


def test_a_file_that_holds_something_else_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("remember the milk\n")

    with pytest.raises(KeyRefused):
        key.make(file)
    assert file.read_text() == "remember the milk\n"


def test_keys_do_not_show_in_what_is_printed() -> None:
    assert "AGE-SECRET-KEY" not in repr(KEYS)
