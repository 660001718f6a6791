"""docs/commands.md: every command with its arguments and options, from the command line itself.

It is here and not in flows/render, because flows.render may not import flows.cli. `medallion render` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.values.settings import PROJECT_ROOT

PAGE = Path("docs/commands.md")

_HEAD = """\
<!-- rendered by `medallion render`; do not edit -->
# Command reference

Every command of `medallion`, from its own `--help`. The commands of everyday work: [README](../README.md#commands).
Exit codes: [Operations](operations.md#exit-codes).
"""


def write(commands: Any, *, check: bool = False, root: Path = PROJECT_ROOT) -> list[Path]:
    """Bring the page up to date, unless `check`. Returns the page if its text differed."""
    path, text = root / PAGE, command_reference(commands)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return []
    if not check:
        path.write_text(text, encoding="utf-8")
    return [path]


def command_reference(commands: Any) -> str:
    """The text of the page. `commands` is the command line as click sees it: `typer.main.get_command(app)`."""
    sections = list(_visible(commands, "medallion"))
    index = "\n".join(f"- [`{name}`](#{name.replace(' ', '-')}): {_summary(command)}" for name, command in sections)
    return "\n".join([_HEAD, index, "", *(_section(name, command) for name, command in sections)])


def _visible(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Commands and subcommands, by name; aliases are hidden. A group is listed if it does something itself."""
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        subcommands = getattr(command, "commands", None)
        if subcommands is None or command.invoke_without_command:
            yield f"{path} {name}", command
        if subcommands is not None:
            yield from _visible(command, f"{path} {name}")


def _summary(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _section(name: str, command: Any) -> str:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [_argument(parameter) for parameter in parameters if parameter.param_type_name == "argument"]
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *arguments])
    paragraphs = [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")]
    lines = [f"## {name}", "", *"\n\n".join(paragraphs).split("\n"), "", "```console", usage, "```", ""]
    if parameters:
        lines += ["| argument or option | default | description |", "| --- | --- | --- |"]
        lines += [_row(parameter) for parameter in parameters]
        lines.append("")
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    """`SOURCE.TABLE`, `[ENVIRONMENT]`, `[SOURCE[.TABLE]]...`."""
    name = parameter.metavar or parameter.name.upper()
    return str(name if parameter.required or name.startswith("[") else f"[{name}]")


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{_argument(parameter)}`"
    else:
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    choices = getattr(parameter.type, "choices", None)
    text = " ".join((parameter.help or "").split())
    if choices:
        text += f" ({', '.join(f'`{choice}`' for choice in choices)})"
    return f"| {name} | {_default(parameter)} | {text} |".replace("[.TABLE]]...", "[.TABLE]]…")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    plain = parameter.default is None or isinstance(parameter.default, bool)
    return "" if plain else f"`{parameter.default}`"
