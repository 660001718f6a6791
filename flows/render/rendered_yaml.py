"""The project's YAML style: keys in the given order, indented lists, no wrapping."""

from typing import Any

import yaml

HEADER = "# rendered by `medallion render`; do not edit\n"


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists are indented below their key: `tables:` and then `  - name:`."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quoted if it contains a Unicode line break: PyYAML writes those verbatim, and reads them as blanks."""
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
# `missing:` is shorter than `missing: null`, and means the same.
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))


def dump(document: Any) -> str:
    """The document without a header. Equal documents give equal text."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
    return text
