"""The tables of kubernetes.md about the watcher: its rights and its metrics, made from the code.

Each function returns the text of one table, for cog to print.
"""

from __future__ import annotations

import ast
import inspect

from rolloutobs import semconv
from rolloutobs.cluster.resources import RESOURCES, VERBS

__all__ = ["metrics", "rights"]

_NAMED = ("ROLLOUT_", "WATCHER_", "PODS", "TRACK_MISMATCH")
_OURS = "rolloutobs_"


def rights() -> str:
    """Return every resource that is read."""
    rows = [
        f"| `{r.group or '(core)'}` | `{r.plural}` | {', '.join(f'`{verb}`' for verb in VERBS)} "
        f"| {r.needed_for} | {'yes' if r.is_required else 'no'} |"
        for r in RESOURCES
    ]
    return "\n".join(
        ("| API group | resource | verbs | for | required |", "| --- | --- | --- | --- | --- |", *rows)
    )


def metrics() -> str:
    """Return every metric that the watcher exports, with what its name's docstring says."""
    rows = [f"| `{name}` | {text} |" for name, text in _names()]
    return "\n".join(("| metric | what it says |", "| --- | --- |", *rows))


def _names() -> list[tuple[str, str]]:
    body = ast.parse(inspect.getsource(semconv)).body
    found = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            value = getattr(semconv, node.target.id)
            is_ours = isinstance(value, str) and value.startswith(_OURS) and node.target.id.startswith(_NAMED)
            if is_ours:
                text = ""
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    text = " ".join(str(after.value.value).split())
                found.append((value, text))
    return found
