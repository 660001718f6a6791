"""`python -m infra.pulumi.render [--check] [STACK]…`: policies, and the pages of every stack. Needs no cloud.

Exit codes: 0 done; 1 a policy is violated; 2 a page differs (`--check`), or the settings of a stack are wrong.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pulumi

from infra.pulumi.graph import HERE, STACKS, Graph, record
from infra.pulumi.pages import COMMAND, cost_page, graph_page
from infra.pulumi.policies import violations

PAGES = HERE / "graphs"


def pages(graph: Graph) -> Iterator[tuple[Path, str]]:
    """The files of a stack and what must stand in them."""
    yield PAGES / f"{graph.stack}.md", graph_page(graph)
    yield PAGES / f"{graph.stack}_cost.md", cost_page(graph)


def drifted(graph: Graph) -> list[Path]:
    """The pages of a stack that are not there or differ."""
    return [path for path, text in pages(graph) if not path.is_file() or path.read_text(encoding="utf-8") != text]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, render, and say what was found."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Policies and pages of the stacks on AWS.")
    parser.add_argument("stacks", nargs="*", default=[*STACKS], metavar="STACK")
    parser.add_argument("--check", action="store_true", help="only compare, write nothing")
    chosen = parser.parse_args(arguments)
    wrong = differing = 0
    for stack in chosen.stacks:
        try:
            graph = record(stack)
        except (pulumi.RunError, FileNotFoundError) as problem:
            sys.stderr.write(f"{problem}\n")
            return 2
        found = violations(graph)
        wrong += len(found)
        for line in found:
            sys.stdout.write(f"violated   {stack}: {line}\n")
        for path in drifted(graph):
            differing += 1
            sys.stdout.write(f"{'differs' if chosen.check else 'written':<9}  {path.relative_to(HERE)}\n")
        if not chosen.check:
            PAGES.mkdir(exist_ok=True)
            for path, text in pages(graph):
                path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{'checked':<9}  {stack}: {len(graph.nodes)} resources, {len(found)} violations\n")
    if differing and chosen.check:
        sys.stdout.write(f"run `{COMMAND}`, and review the changes before you deploy\n")
    return 1 if wrong else 2 if differing and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main())
