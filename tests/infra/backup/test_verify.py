"""What a copy is opened into: files and folders of a cluster, whatever else somebody may have put into it."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.backup.verify import write_files


def archive(*members: tarfile.TarInfo) -> io.BytesIO:
    """An archive of these, each file with the content `18`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w|") as tar:
        for member in members:
            member.size = 2 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"18"))
    packed.seek(0)
    return packed


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o600) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    # Ids of the machine that was copied, which may be somebody else's here.
    made.type, made.linkname, made.mode, made.uid, made.gid = kind, target, mode, 4711, 4711
    return made


@pytest.fixture(params=["a Python that has a filter", "3.11.3 and before, which have none"])
def _python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has Python 3.11.2: backups could be made there, and not be verified, so that none ever counted."""
    if "none" in request.param:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("_python")
def test_files_become_ours_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    folder = member("base", tarfile.DIRTYPE, mode=0o700)
    write_files(archive(folder, member("base/PG_VERSION", mode=0o6666)), tmp_path / "data", None)

    written = tmp_path / "data" / "base" / "PG_VERSION"
    assert written.read_bytes() == b"18"
    assert written.stat().st_mode & 0o7777 == 0o600
    assert written.stat().st_uid == tmp_path.stat().st_uid


@pytest.mark.usefixtures("_python")
@pytest.mark.parametrize(
    "strange",
    [
        lambda outside: member(f"../{outside.name}"),
        lambda outside: member(str(outside)),
        lambda outside: member("pg_wal", tarfile.SYMTYPE, target=str(outside.parent)),
        lambda outside: member("PG_VERSION", tarfile.LNKTYPE, target=str(outside)),
        lambda outside: member("pipe", tarfile.FIFOTYPE),
    ],
    ids=["above the folder", "an absolute name", "a symbolic link", "a hard link", "a pipe"],
)
def test_what_no_copy_of_a_cluster_holds_is_refused(strange: Callable[[Path], tarfile.TarInfo], tmp_path: Path) -> None:
    """Backups are sealed for a public key: whoever may write to the store could seal one of his own."""
    outside = tmp_path / "outside"

    with pytest.raises(tarfile.TarError):
        write_files(archive(member("PG_VERSION"), strange(outside)), tmp_path / "data", None)

    assert not outside.exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["PG_VERSION"]
