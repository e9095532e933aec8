"""Which line of a file a setting stands on: YAML and TOML. Pure, but for what they are parsed with.

Belongs here: positions. What a setting means is `rolloutobs.analysis.policy`, or the settings of a command.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from rolloutobs.errors import ConfigurationError

__all__ = ["line_of", "toml_lines", "yaml_lines"]


def yaml_lines(text: str) -> Mapping[str, int]:
    """Return the line of each key of a YAML text that is known to parse, by dotted path, from 1.

    An entry of a list is named by its number, from 0.

    Raises:
        ConfigurationError: a key stands twice in the same mapping, of which YAML would silently drop one.
    """
    import yaml

    found: dict[str, int] = {}
    node = yaml.compose(text, Loader=yaml.SafeLoader)

    def walk(node: Any, path: str) -> None:
        if isinstance(node, yaml.SequenceNode):
            for number, each in enumerate(node.value):
                found[f"{path}.{number}"] = each.start_mark.line + 1
                walk(each, f"{path}.{number}")
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in found:
                raise ConfigurationError(
                    f"line {line}: {name} stands here and on line {found[name]}; keep one of them"
                )
            found[name] = line
            walk(value, name)

    walk(node, "")
    return found


def toml_lines(text: str) -> Mapping[str, int]:
    """Return the same of a TOML text that is known to parse; what stands in an inline table, on its line."""
    found: dict[str, int] = {}
    lines, at, table = text.split("\n"), 0, ""
    while at < len(lines):
        line = lines[at].strip()
        if line.startswith("["):
            table = next(reversed(list(_paths(tomllib.loads(line)))))
            found.setdefault(table, at + 1)
        elif line and not line.startswith("#"):
            statement, last = _statement(lines, at)
            for path in _paths(statement):
                found.setdefault(f"{table}.{path}" if table else path, at + 1)
            at = last
        at += 1
    return found


def _statement(lines: list[str], first: int) -> tuple[Mapping[str, Any], int]:
    """Return the assignment that begins on line `first` and the line that it ends on: it may go over
    several."""
    for last in range(first, len(lines)):
        try:
            return tomllib.loads("\n".join(lines[first : last + 1])), last
        except tomllib.TOMLDecodeError:
            continue
    return {}, first


def _paths(plain: object, path: str = "") -> Iterator[str]:
    """Yield the dotted paths of nested mappings, outer ones first."""
    if isinstance(plain, list) and plain:
        yield from _paths(plain[0], path)
    elif isinstance(plain, Mapping):
        for key, value in plain.items():
            name = f"{path}.{key}" if path else key
            yield name
            yield from _paths(value, name)


def line_of(setting: str, lines: Mapping[str, int]) -> int | None:
    """Return the line of `setting`, or of what it would stand in; ``None``: of neither."""
    while setting:
        if setting in lines:
            return lines[setting]
        setting = setting.rpartition(".")[0]
    return None
