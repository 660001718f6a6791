"""YAML as this project writes it: keys in the order given, lists indented, nothing wrapped."""

from typing import Any

import yaml

HEADER = "# rendered by `medallion render`; do not edit\n"


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists are indented below their key: `tables:` and then `  - name:`."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quoted where it holds a line break of Unicode's: PyYAML writes those as they are, and reads them as blanks."""
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
# `missing:` reads better than `missing: null`, and means the same.
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))


def dump(document: Any) -> str:
    """The document without a header. Equal documents give equal text."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
    return text
