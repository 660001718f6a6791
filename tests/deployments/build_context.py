"""A Dockerfile read as its builder reads it, and the files that a build sees: those of git, less the ignored."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    """One instruction: its stage, its word in capitals, and the rest of its line, continuations joined."""

    stage: str
    word: str
    rest: str


def instructions(dockerfile: str) -> Iterator[Instruction]:
    """Every instruction, in order; what stands before the first FROM has the stage ``.

    Comments and continuations are taken out as the builder does.
    """
    kept = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    stage = ""
    for line in re.sub(r"\\\n\s*", "", kept).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                stage = rest.rpartition(" AS ")[2].strip() if " AS " in rest else rest
            yield Instruction(stage, word, rest.strip())


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether .dockerignore leaves a file out. The last pattern that fits the file, or a folder above it, decides."""
    steps = [str(PurePosixPath(path)), *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    left_out = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        if any(_fits(step, wanted) for step in steps):
            left_out = not pattern.startswith("!")
    return left_out


def _fits(path: str, pattern: str) -> bool:
    # A star does not cross a slash, `**/` stands for any number of folders.
    if pattern.startswith("**/"):
        return any(_fits("/".join(path.split("/")[n:]), pattern[3:]) for n in range(path.count("/") + 1))
    ours, theirs = path.split("/"), pattern.split("/")
    return len(ours) == len(theirs) and all(fnmatch(one, other) for one, other in zip(ours, theirs, strict=True))


def context(root: Path) -> list[str]:
    """The files of the build context, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.strip() for line in (root / ".dockerignore").read_text().splitlines())
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [name for name in listed.stdout.splitlines() if (root / name).is_file() and not ignored(name, patterns)]
