"""What a rule is: frozen data, and the words of PromQL that repeat."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from textwrap import dedent
from typing import Final

from rolloutobs import semconv

__all__ = [
    "APP",
    "CANARY",
    "IDENTITY",
    "STABLE",
    "USERS",
    "Alert",
    "Group",
    "Recording",
    "Severity",
    "promql",
]

APP: Final = f"namespace, {semconv.LABEL_APP}"
"""Labels of the level ``app``."""
IDENTITY: Final = f"{APP}, {semconv.LABEL_VERSION}, {semconv.LABEL_TRACK}"
"""Labels of the level ``app_version``."""
CANARY: Final = f'{semconv.LABEL_TRACK}="canary"'
STABLE: Final = f'{semconv.LABEL_TRACK}="stable"'
USERS: Final = f'{semconv.LABEL_APP}!="", {semconv.LABEL_VERSION}!="", {semconv.LABEL_SYNTHETIC}=""'
"""Selects what real users did, of apps that say who they are."""


class Severity(StrEnum):
    """Who is told, and how soon."""

    CRITICAL = "critical"
    """Pages somebody."""
    WARNING = "warning"
    """Goes to the team's chat."""
    INFO = "info"
    """Goes into a digest."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule; its name is ``level:metric:operations``."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. Its runbook entry has its name as the heading."""

    name: str
    severity: Severity
    expression: str
    summary: str
    """One line, with ``{{ $labels }}`` but without values: notifications are grouped by it."""
    description: str
    """With the value."""
    hold_seconds: int = 0
    """How long it must hold before it fires. Short: a canary that is rolled back would never get there."""
    keep_seconds: int = 600
    """How long it fires on after it no longer holds, so that a short-lived canary is still heard of."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other."""

    name: str
    rules: tuple[Recording | Alert, ...] = field(default=())


def promql(text: str) -> str:
    """Return an expression without the indentation that it has in the code."""
    return dedent(text).strip()
