"""What a Prometheus answers, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs.errors import ConfigurationError, SourceError

__all__ = [
    "ALL_APPS",
    "APPS",
    "Answers",
    "Row",
    "Rule",
    "app_of",
    "counted",
    "job_of",
    "matcher_of",
    "rows_of",
    "rules_of",
]

APPS: Final = "$apps"
"""Stands in queries for the matchers of the apps that are looked at."""
ALL_APPS: Final = 'app!=""'


@dataclass(frozen=True, slots=True)
class Row:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float

    def label(self, name: str) -> str:
        """Return the value of a label; empty where there is none."""
        return self.labels.get(name, "")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that a Prometheus has loaded."""

    name: str
    group: str
    error: str = ""
    """Why it could not be evaluated the last time; empty if it could."""


Answers = Mapping[str, Sequence[Row]]
"""Rows by the name of the query."""


def matcher_of(app: str) -> str:
    """Return the matcher of one app, or of all.

    Raises:
        ConfigurationError: no app can be called so.
    """
    if not app:
        return ALL_APPS
    if '"' in app or "\\" in app or "\n" in app:
        raise ConfigurationError(f"--app is {app!r}; use the label app of its metrics")
    return f'app="{app}"'


def rows_of(answer: Any) -> list[Row]:
    """Return the vector in an answer of ``/api/v1/query``, by its labels in order.

    Raises:
        SourceError: it is none; with what Prometheus says about it.
    """
    try:
        if answer["status"] != "success":
            raise SourceError(f"Prometheus says: {answer.get('error', answer['status'])}")
        rows = [Row(dict(row["metric"]), float(row["value"][1])) for row in answer["data"]["result"]]
        return sorted(rows, key=lambda row: sorted(row.labels.items()))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SourceError(f"this is not an answer of a Prometheus: {error!r}") from error


def rules_of(answer: Any) -> list[Rule]:
    """Return the rules in an answer of ``/api/v1/rules``.

    Raises:
        SourceError: it is none.
    """
    try:
        return [
            Rule(rule["name"], group["name"], rule.get("lastError", ""))
            for group in answer["data"]["groups"]
            for rule in group["rules"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"this is not an answer of a Prometheus: {error!r}") from error


def counted(number: float, noun: str, nouns: str = "") -> str:
    """Return a number with its noun: ``1 pod``, ``2 pods``."""
    return f"{number:.0f} {noun if number == 1 else nouns or noun + 's'}"


def job_of(row: Row) -> str:
    """Return how the job of a row is called in a finding."""
    namespace = row.label("namespace")
    return f"job {row.label('job')!r}" + (f" in {namespace!r}" if namespace else "")


def app_of(row: Row) -> str:
    """Return how the app of a row is called in a finding."""
    return f"app {row.label('app')!r}, version {row.label('version')!r}"
