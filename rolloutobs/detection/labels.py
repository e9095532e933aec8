"""The labels of a pod as a Downward API volume shows them: a file, and what it says.

Source: Kubernetes, "Downward API"; the kubelet writes ``key="value"`` lines in Go's ``%q`` quoting for
``metadata.labels``, and the bare value for ``metadata.labels['<key>']``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from rolloutobs.detection.files import read_small

__all__ = ["NO_LABELS", "Labels", "parse_labels", "read_labels"]

_LINE = re.compile(r'\s*([^\s="]+)="((?:[^"\\]|\\.)*)"\s*')
# Source: the Go specification, "Rune literals" and "String literals".
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Labels:
    """What a label file said at one moment."""

    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Labels by key; empty for a file of a single label."""
    single: str = ""
    """The bare value of a file of a single label; which label that is, only who mounted it knows."""
    problem: str = ""
    """Why the file could not be used at all (unreadable, half-written); then there are no values."""
    is_missing: bool = False
    """Whether there was no file."""


NO_LABELS = Labels(is_missing=True)


def read_labels(path: str | None) -> Labels:
    """Return what the file at `path` says now; never raises. ``None``: there is no file."""
    if path is None:
        return NO_LABELS
    try:
        text = read_small(path)
    except (FileNotFoundError, NotADirectoryError):
        return NO_LABELS
    except (OSError, ValueError) as error:
        return Labels(problem=f"{path} cannot be read: {error}")
    labels = parse_labels(text)
    return Labels(problem=f"{path}, {labels.problem}") if labels.problem else labels


def parse_labels(text: str) -> Labels:
    """Return what the text of a label file says.

    A line that is not ``key="value"`` makes the whole file unusable: the kubelet replaces the file as a
    whole, so such a file was written by something else and may be half-written, and a label that is still
    missing may be the one that counts.
    """
    lines = text.splitlines()
    filled = [line for line in lines if line.strip()]
    if len(filled) == 1 and "=" not in filled[0]:
        return Labels(single=filled[0].strip().strip('"'))
    values = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            return Labels(problem=f'line {number} is not key="value": {line[:80]!r}')
        values[found[1]] = _ESCAPE.sub(_unescaped, found[2])
    return Labels(MappingProxyType(values))


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 1:
        return _PLAIN.get(code, code)
    point = int(code[1:], 16)
    # Beyond Unicode: Go never writes it.
    return chr(point) if point <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}"
