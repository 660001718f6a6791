"""Files of a folder at bad moments: overwritten while they are released, or refused."""

from pathlib import Path

import pytest

from flows.kinds.files.folder import LocalFolder
from flows.values.errors import SourceError


def dropped(root: Path, text: str) -> None:
    """As careful senders do: written aside, then renamed."""
    aside = root / ".a.csv.part"
    aside.write_text(text)
    aside.rename(root / "a.csv")


def signature(folder: LocalFolder) -> str:
    found = folder.look("a.csv")
    assert found is not None
    return found.signature


@pytest.mark.parametrize("to", [None, "done/a.csv"])
def test_a_file_is_released_as_it_was_read(tmp_path: Path, to: str | None) -> None:
    dropped(tmp_path, "read")
    folder = LocalFolder(tmp_path)

    assert folder.release("a.csv", signature(folder), to)
    left = [str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()]
    assert left == ([to] if to else [])


@pytest.mark.parametrize("to", [None, "done/a.csv"])
def test_a_file_that_was_overwritten_before_its_release_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str | None
) -> None:
    """A process that dies between the move and putting it back would leave it where no load looks."""
    dropped(tmp_path, "read")
    folder = LocalFolder(tmp_path)
    read = signature(folder)
    dropped(tmp_path, "not read")
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("it was moved"))

    assert not folder.release("a.csv", read, to)
    assert (tmp_path / "a.csv").read_text() == "not read"


@pytest.mark.parametrize(("again", "kept"), [(None, "second"), ("third", "third")])
def test_a_file_that_is_overwritten_during_its_release_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str | None, kept: str
) -> None:
    """Also if yet another is dropped at the very moment when the second is put back."""
    dropped(tmp_path, "first")
    folder = LocalFolder(tmp_path)
    read, rename, exists = signature(folder), Path.rename, Path.exists

    def second_is_dropped(path: Path, target: Path) -> Path:
        if path.name == "a.csv":
            monkeypatch.setattr(Path, "rename", rename)
            dropped(tmp_path, "second")
        return rename(path, target)

    def third_is_dropped(path: Path) -> bool:
        there = exists(path)
        if again and path.name == "a.csv":
            dropped(tmp_path, again)
        return there

    link = Path.hardlink_to

    def link_after_third(path: Path, target: Path) -> None:
        if again:
            dropped(tmp_path, again)
        link(path, target)

    monkeypatch.setattr(Path, "rename", second_is_dropped)
    monkeypatch.setattr(Path, "exists", third_is_dropped)
    monkeypatch.setattr(Path, "hardlink_to", link_after_third)

    assert not folder.release("a.csv", read, None)
    assert (tmp_path / "a.csv").read_text() == kept


def test_a_file_that_may_not_be_looked_at_is_not_gone(tmp_path: Path) -> None:
    """A path of which the kernel refuses to say anything: its name is too long."""
    folder = LocalFolder(tmp_path)

    with pytest.raises(SourceError, match="cannot be looked at") as refused:
        folder.look("a" * 300)
    assert refused.value.retryable
    assert folder.look("gone.csv") is None
