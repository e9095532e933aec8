"""What the settings of the policy mean, as comments in the YAML of ``rolloutobs policy show``.

The words are the docstrings below the fields, so that there is one place for them; they are read from the
source, since Python does not keep them.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, Final

from rolloutobs.analysis.policy import Policy, Signal

__all__ = ["explained"]

_WIDTH: Final = 100
_HEAD: Final = """\
Every setting with its value. None has to be set: a file given with --policy changes those it names.
Beside each stands where its value comes from; names in quotes are paragraphs of docs/verdict.md.
"""
_KEY: Final = re.compile(r"( *)([A-Za-z_][\w.]*):(?: |$)")


@dataclass(frozen=True, slots=True)
class _Words:
    """Docstrings of a class and of its fields."""

    text: str
    fields: Mapping[str, str]


def explained(yaml: str) -> str:
    """Return the YAML of a policy, in blocks that are indented by two, with comments above its settings.

    The settings of a signal are explained in the first one only.
    """
    policy, signal = _words(Policy), _words(Signal)
    parts = {each.name: getattr(Policy(), each.name) for each in fields(Policy)}
    sections = {name: _words(type(part)) for name, part in parts.items() if is_dataclass(part)}
    lines, path, explained_signal = list(_comment(_HEAD, "")), ["", "", ""], ""
    for line in yaml.splitlines():
        found = _KEY.match(line)
        depth = len(found[1]) // 2 if found else len(path)
        if found and depth < len(path):
            path[depth:] = [found[2], *[""] * (len(path) - depth - 1)]
            text = ""
            if depth == 0:
                text = policy.fields.get(found[2], "")
                if found[2] in sections:
                    text = sections[found[2]].text
            elif depth == 1 and path[0] in sections:
                text = sections[path[0]].fields.get(found[2], "")
            elif depth == 2 and path[0] == "signals":
                explained_signal = explained_signal or path[1]
                text = signal.fields.get(found[2], "") if path[1] == explained_signal else ""
            lines += _comment(text, found[1])
        lines.append(line)
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        if paragraph:
            # Two backticks are Sphinx's.
            words = " ".join(paragraph.replace("``", "`").replace("`None`", "null").split())
            yield from textwrap.wrap(
                words, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )


def _words(kind: type) -> _Words:
    """Return the docstrings of a dataclass; none where its source is not installed."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except OSError:
        return _Words("", {})
    body: list[Any] = list(getattr(tree, "body", []))
    found = {
        node.target.id: str(below.value.value)
        for node, below in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }
    return _Words(inspect.getdoc(kind) or "", found)
