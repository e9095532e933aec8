"""What one Prometheus says about how apps are scraped. Pure: answers in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rolloutobs import foreign, semconv
from rolloutobs.checkup import parts, platform, sides
from rolloutobs.checkup.answers import ALL_APPS, APPS, Answers, app_of, counted, job_of
from rolloutobs.checkup.model import Finding, Level
from rolloutobs.identity import UNKNOWN_VERSION

__all__ = ["QUERIES", "check"]

_RENAMED: Final = tuple("exported_" + label for label in semconv.IDENTITY_LABELS)
QUERIES: Final[Mapping[str, str]] = {
    "identities": f"count by (app, version, track) ({semconv.APP_BUILD_INFO}{{{APPS}}})",
    "all apps": f"count by (app) ({semconv.APP_BUILD_INFO}{{{ALL_APPS}}})",
    "anonymous": f'count by (job, namespace) ({semconv.APP_BUILD_INFO}{{app=""}})',
    **{
        label: f'count by (job, namespace, {label}) ({semconv.APP_BUILD_INFO}{{{label}!=""}})'
        for label in _RENAMED
    },
    "errors": f"sum by (app, version, where) (increase({semconv.INTERNAL_ERRORS_TOTAL}{{{APPS}}}[15m])) > 0",
    "overflow": (
        f"sum by (app, version, metric) (increase({semconv.LABEL_SETS_DROPPED_TOTAL}{{{APPS}}}[15m])) > 0"
    ),
    "down": (
        f"count by (job, namespace) ({foreign.UP} == 0 "
        f"and on (job) count by (job) ({semconv.APP_BUILD_INFO}{{{APPS}}}))"
    ),
    **sides.QUERIES,
    **platform.QUERIES,
    **parts.QUERIES,
}
"""By what they tell; each is an instant query."""


def check(answers: Answers) -> list[Finding]:
    """Return what there is to say.

    Args:
        answers: the rows of every one of `QUERIES`.
    """
    return [
        *_apps(answers),
        *_renamed(answers),
        *sides.check(answers),
        *platform.check(answers),
        *parts.check(answers),
        *_troubles(answers),
    ]


def _apps(answers: Answers) -> Iterator[Finding]:
    found = [row for row in answers["identities"] if row.label("app")]
    if not found and answers["all apps"]:
        others = ", ".join(sorted(repr(row.label("app")) for row in answers["all apps"]))
        yield Finding(
            Level.BAD,
            "apps",
            f"no series of {semconv.APP_BUILD_INFO} of this app; there are {others}",
            "--app is the label app of its metrics (service.name); if that is right, see whether its targets "
            "are up, and whether its pods have the label of the PodMonitor",
        )
    elif not found:
        yield Finding(
            Level.BAD,
            "apps",
            f"no series of {semconv.APP_BUILD_INFO} with a label app",
            "no instrumented app is scraped: see whether its targets are up, and whether its port and path "
            "are those of the ServiceMonitor",
        )
    for row in found:
        app, version, track = (row.label(name) for name in semconv.IDENTITY_LABELS)
        known = version not in ("", UNKNOWN_VERSION)
        yield Finding(
            Level.GOOD if known else Level.BAD,
            "app" if known else "version",
            f"app {app!r}, version {version!r}, {f'track {track!r}' if track else 'no track'}: "
            + counted(row.value, "instance"),
            "" if known else "set ROLLOUTOBS_VERSION",
        )
    for row in answers["anonymous"]:
        yield Finding(
            Level.BAD,
            "labels",
            f"{job_of(row)}: {counted(row.value, 'instance')} without the label app",
            "a metricRelabelings or labeldrop rule removes it",
        )


def _renamed(answers: Answers) -> Iterator[Finding]:
    hit = False
    for label in _RENAMED:
        for row in answers[label]:
            hit = True
            yield Finding(
                Level.BAD,
                "honorLabels",
                f"{job_of(row)}: {label} is {row.label(label)!r}, as the target has a label "
                f"{label.removeprefix('exported_')} of its own, which wins",
                "set honorLabels: true in the ServiceMonitor (honor_labels in a scrape config); if it is "
                "set, the Prometheus resource overrides it (overrideHonorLabels)",
            )
    if not hit and answers["identities"]:
        yield Finding(Level.GOOD, "honorLabels", "the labels of the apps arrive as they are")


def _troubles(answers: Answers) -> Iterator[Finding]:
    for row in answers["down"]:
        yield Finding(
            Level.BAD,
            "targets",
            f"{job_of(row)}: {counted(row.value, 'target')} cannot be scraped",
            "the page /targets of Prometheus says why",
        )
    for row in answers["errors"]:
        yield Finding(
            Level.BAD,
            "internal errors",
            f"{app_of(row)}: {counted(row.value, 'failure')} of telemetry in 15 minutes "
            f"({row.label('where')})",
            "the app's log has one line a minute about it, from the logger rolloutobs",
        )
    for row in answers["overflow"]:
        yield Finding(
            Level.BAD,
            "overflow",
            f"{app_of(row)}: {row.label('metric')} has too many label sets",
            "rolloutobs doctor --url, on one pod, names the label that has no bound",
        )
