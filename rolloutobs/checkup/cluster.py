"""What one Prometheus says about how apps are scraped. Pure: answers in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs import semconv
from rolloutobs.checkup.model import Finding, Level
from rolloutobs.errors import SourceError
from rolloutobs.identity import UNKNOWN_VERSION

__all__ = ["QUERIES", "Row", "check", "rows_of"]

_RENAMED: Final = tuple("exported_" + label for label in semconv.IDENTITY_LABELS)
QUERIES: Final[Mapping[str, str]] = {
    "identities": f"count by (app, version, track) ({semconv.APP_BUILD_INFO})",
    "anonymous": f'count by (job, namespace) ({semconv.APP_BUILD_INFO}{{app=""}})',
    **{
        label: f'count by (job, namespace, {label}) ({semconv.APP_BUILD_INFO}{{{label}!=""}})'
        for label in _RENAMED
    },
    "errors": f"sum by (app, version, where) (increase({semconv.INTERNAL_ERRORS_TOTAL}[15m])) > 0",
    "overflow": f"sum by (app, version, metric) (increase({semconv.LABEL_SETS_DROPPED_TOTAL}[15m])) > 0",
    "down": f"count by (job, namespace) (up == 0 and on (job) count by (job) ({semconv.APP_BUILD_INFO}))",
}
"""By what they tell; each is an instant query."""


@dataclass(frozen=True, slots=True)
class Row:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


def rows_of(answer: Any) -> list[Row]:
    """Return the vector in an answer of ``/api/v1/query``.

    Raises:
        SourceError: it is none; with what Prometheus says about it.
    """
    try:
        if answer["status"] != "success":
            raise SourceError(f"Prometheus says: {answer.get('error', answer['status'])}")
        return [Row(dict(row["metric"]), float(row["value"][1])) for row in answer["data"]["result"]]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SourceError(f"this is not an answer of a Prometheus: {error!r}") from error


def check(answers: Mapping[str, Sequence[Row]]) -> list[Finding]:
    """Return what there is to say.

    Args:
        answers: the rows of every one of `QUERIES`.
    """
    return [*_apps(answers), *_renamed(answers), *_troubles(answers)]


def _apps(answers: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    found = [row for row in answers["identities"] if row.labels.get("app")]
    if not found:
        yield Finding(
            Level.BAD,
            "apps",
            f"no series of {semconv.APP_BUILD_INFO} with a label app",
            "no instrumented app is scraped: see whether its targets are up, and whether its port and path "
            "are those of the ServiceMonitor",
        )
    for row in found:
        app, version, track = (row.labels.get(name, "") for name in semconv.IDENTITY_LABELS)
        known = version not in ("", UNKNOWN_VERSION)
        yield Finding(
            Level.GOOD if known else Level.BAD,
            "app" if known else "version",
            f"app {app!r}, version {version!r}, track {track!r}: {row.value:.0f} instances",
            "" if known else "set ROLLOUTOBS_VERSION",
        )
    for row in answers["anonymous"]:
        yield Finding(
            Level.BAD,
            "labels",
            f"{_job(row)}: {row.value:.0f} instances without the label app",
            "a metricRelabelings or labeldrop rule removes it",
        )


def _renamed(answers: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    hit = False
    for label in _RENAMED:
        for row in answers[label]:
            hit = True
            yield Finding(
                Level.BAD,
                "honorLabels",
                f"{_job(row)}: {label} is {row.labels.get(label, '')!r}, as the target has a label "
                f"{label.removeprefix('exported_')} of its own, which wins",
                "set honorLabels: true in the ServiceMonitor (honor_labels in a scrape config); if it is "
                "set, the Prometheus resource overrides it (overrideHonorLabels)",
            )
    if not hit and answers["identities"]:
        yield Finding(Level.GOOD, "honorLabels", "the labels of the apps arrive as they are")


def _troubles(answers: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    for row in answers["down"]:
        yield Finding(
            Level.BAD,
            "targets",
            f"{_job(row)}: {row.value:.0f} targets cannot be scraped",
            "the page /targets of Prometheus says why",
        )
    for row in answers["errors"]:
        yield Finding(
            Level.BAD,
            "internal errors",
            f"{_app(row)}: {row.value:.0f} failures of telemetry in 15 minutes ({row.labels.get('where')})",
            "the app's log has one line a minute about it, from the logger rolloutobs",
        )
    for row in answers["overflow"]:
        yield Finding(
            Level.BAD,
            "overflow",
            f"{_app(row)}: {row.labels.get('metric')} has too many label sets",
            "rolloutobs doctor --url, on one pod, names the label that has no bound",
        )


def _job(row: Row) -> str:
    namespace = row.labels.get("namespace")
    return f"job {row.labels.get('job', '')!r}" + (f" in {namespace!r}" if namespace else "")


def _app(row: Row) -> str:
    return f"app {row.labels.get('app', '')!r}, version {row.labels.get('version', '')!r}"
