"""Reading and writing YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["load", "load_all", "parsed", "text"]

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML has it."""


class _Dumper(yaml.SafeDumper):
    """Indents lists, and writes long texts as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _represent)


def parsed(content: str) -> Any:
    """Return what one YAML text says."""
    return yaml.load(content, _LOADER)  # noqa: S506 - a safe one


def load(path: Path) -> Any:
    """Return what one file holds."""
    return parsed(path.read_text(encoding="utf-8"))


def load_all(path: Path) -> list[dict[str, Any]]:
    """Return every object of a file with several."""
    content = path.read_text(encoding="utf-8")
    return [each for each in yaml.load_all(content, _LOADER) if each is not None]


def text(content: Mapping[str, Any]) -> str:
    """Return one object as YAML."""
    written: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return written
