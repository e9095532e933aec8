"""The tables of runbook.md and kubernetes.md, made from the rules and dashboards in k8s/source.

Each function returns the text of one table, for cog to print.
"""

from __future__ import annotations

from collections.abc import Iterable

from k8s.source.dashboards import BOARDS
from k8s.source.rules import ALERTS, GROUPS, Recording

__all__ = ["alerts", "dashboards", "recordings"]


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def alerts() -> str:
    """Return every alert with its tier and how long it has to hold."""
    rows = [
        (
            f"[{a.name}](#{a.name.lower()})",
            a.severity.value,
            _minutes(a.hold_seconds),
            _minutes(a.keep_seconds),
        )
        for a in ALERTS
    ]
    return _rows(("alert", "tier", "after", "fires on for"), rows)


def recordings() -> str:
    """Return every recording rule by its group."""
    return _rows(
        ("group", "series"),
        [
            (
                f"`{group.name}`",
                ", ".join(f"`{rule.name}`" for rule in group.rules if isinstance(rule, Recording)),
            )
            for group in GROUPS
            if isinstance(group.rules[0], Recording)
        ],
    )


def dashboards() -> str:
    """Return every dashboard with what it shows."""
    rows = [
        (f"`{b.name}`", b.description, ", ".join(row.title[0].lower() + row.title[1:] for row in b.rows))
        for b in BOARDS
    ]
    return _rows(("dashboard", "what it answers", "rows"), rows)


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds else "0"
