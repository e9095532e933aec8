"""Whether Prometheus and its data are fit for the rules and the gate. Pure: answers in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rolloutobs import foreign, semconv
from rolloutobs.checkup.answers import APPS, Answers, Row, Rule, counted, job_of
from rolloutobs.checkup.model import Finding, Level

__all__ = ["QUERIES", "check", "clock", "loaded", "version"]

_INFO: Final = f"{semconv.APP_BUILD_INFO}{{{APPS}}}"
_PROCESSES: Final = f"max by (job, instance, app) ({_INFO})"
_LAST_MINUTES: Final = 5
# Four samples within the shortest window of the rules, 5 minutes: a scrape that fails leaves three.
_SLOWEST_SECONDS: Final = 75.0
_BEST_SECONDS: Final = 30.0
_LATE_SECONDS: Final = 5.0
"""By which clocks may differ: a scrape and a query take a moment."""
_OLD_SECONDS: Final = 120.0
_MANY_SERIES: Final = 10_000
"""Of one process; fifty routes with many statuses have a third of it."""
# Source: Prometheus, CHANGELOG, 2.42.0: keep_firing_for.
_OLDEST: Final = (2, 42)
_ALLOWLIST: Final = (
    "--metric-labels-allowlist=pods=[app.kubernetes.io/name,app.kubernetes.io/version,rolloutobs.io/track]"
)

_NEEDED: Final = "deployments|pods|replicasets"
"""Resources without which a watcher can tell nothing; a test compares them with its own."""

QUERIES: Final[Mapping[str, str]] = {
    "in pods": f"count({semconv.APP_BUILD_INFO}{{{APPS}, pod!=''}})",
    "kube": f"count({foreign.POD_INFO})",
    "kube renamed": f'count by (job) ({foreign.POD_INFO}{{exported_pod!=""}})',
    "kube labels": f'count({foreign.POD_LABELS}{{label_app_kubernetes_io_version!=""}})',
    "kube tracks": f'count({foreign.POD_LABELS}{{label_rolloutobs_io_track!=""}})',
    "some tracks": f"count({semconv.APP_BUILD_INFO}{{{APPS}, track!=''}})",
    "wrong track": f"max by (namespace, workload) ({semconv.TRACK_MISMATCH_PODS}) > 0",
    "unreadable": (
        f"min by ({semconv.LABEL_RESOURCE}) "
        f'({semconv.WATCHER_READABLE}{{{semconv.LABEL_RESOURCE}=~"{_NEEDED}"}}) == 0'
    ),
    "now": "vector(time())",
    "age": f"max by (app, job) (time() - timestamp({_INFO}))",
    "ahead": f"max by (app, job) ({semconv.APP_START_TIME_SECONDS}{{{APPS}}} - time()) > {_LATE_SECONDS:g}",
    "nodes": (
        f"max by (instance) (abs({foreign.NODE_TIME} - timestamp({foreign.NODE_TIME}))) > {_LATE_SECONDS:g}"
    ),
    "samples": (
        f"min by (job, namespace) (count_over_time({_INFO}[{_LAST_MINUTES}m]) "
        f"and {_INFO} offset {_LAST_MINUTES}m)"
    ),
    "series": (
        f"max by (app) ({_PROCESSES} * on (job, instance) group_left () "
        f"max by (job, instance) ({foreign.SCRAPED_SAMPLES}))"
    ),
    "dropped": (
        f"max by (app) ({_PROCESSES} * on (job, instance) group_left () "
        f"max by (job, instance) ({foreign.SCRAPED_SAMPLES} - {foreign.KEPT_SAMPLES})) > 0"
    ),
}
"""By what they tell; each is an instant query."""


def check(answers: Answers) -> Iterator[Finding]:
    """Yield what there is to say about Prometheus' data as a whole."""
    yield from _kube(answers)
    yield from _watcher(answers)
    yield from _clocks(answers)
    yield from _intervals(answers["samples"])
    yield from _series(answers)


def _kube(answers: Answers) -> Iterator[Finding]:
    in_pods = bool(answers["in pods"])
    if not answers["kube"]:
        yield Finding(
            Level.BAD if in_pods else Level.NOTE,
            "kube-state-metrics",
            f"no series of {foreign.POD_INFO}",
            "alerts about Deployments, restarts and memory are silent without it: have it scraped",
        )
        return
    for row in answers["kube renamed"]:
        yield Finding(
            Level.BAD,
            "kube-state-metrics",
            f"job {row.label('job')!r}: pods are in the label exported_pod",
            "set honorLabels: true in its ServiceMonitor; until then nothing about pods can be joined",
        )
    if not answers["kube labels"]:
        yield Finding(
            Level.BAD,
            "kube-state-metrics",
            f"no {foreign.POD_LABELS} with the version: pods that crash before they are scraped have none",
            f"start it with {_ALLOWLIST}, and give pods the label app.kubernetes.io/version",
        )
    elif answers["some tracks"] and not answers["kube tracks"]:
        yield Finding(
            Level.NOTE,
            "kube-state-metrics",
            f"no {foreign.POD_LABELS} with the track, and apps have one",
            f"start it with {_ALLOWLIST}; under Flagger there is no such label",
        )
    elif not answers["kube renamed"]:
        yield Finding(Level.GOOD, "kube-state-metrics", "it is scraped, and knows the versions of pods")


def _watcher(answers: Answers) -> Iterator[Finding]:
    for row in answers["unreadable"]:
        yield Finding(
            Level.BAD,
            "watcher",
            f"it may not read {row.label(semconv.LABEL_RESOURCE)}",
            "give its service account the rights of the ClusterRole in k8s/base/watcher.yaml",
        )
    for row in answers["wrong track"]:
        yield Finding(
            Level.BAD,
            "track",
            f"{row.label('namespace')}/{row.label('workload')}: "
            f"{counted(row.value, 'pod says that it is', 'pods say that they are')} of another track than "
            "their controller does",
            "rolloutobs status lists them; correct the label rolloutobs.io/track, or restart them",
        )


def _clocks(answers: Answers) -> Iterator[Finding]:
    late = False
    for row in answers["age"]:
        if row.value > _OLD_SECONDS:
            late = True
            yield Finding(
                Level.BAD,
                "clock",
                f"app {row.label('app')!r}, job {row.label('job')!r}: samples are {row.value:.0f} s old",
                "they bring timestamps of their own, or are handed on by a federation: scrape the pods",
            )
    for row in answers["ahead"]:
        late = True
        yield Finding(
            Level.BAD,
            "clock",
            f"app {row.label('app')!r}, {job_of(row)}: a process has started {row.value:.0f} s in the future",
            "the clock of its node is ahead: see whether NTP runs there",
        )
    for row in answers["nodes"]:
        late = True
        yield Finding(
            Level.BAD,
            "clock",
            f"the clock of {row.label('instance')} is {row.value:.0f} s from Prometheus'",
            "see whether NTP runs there",
        )
    if answers["age"] and not late:
        yield Finding(Level.GOOD, "clock", "samples are fresh, and no process has started in the future")


def _intervals(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        interval = _LAST_MINUTES * 60 / row.value
        what = f"{job_of(row)} is scraped every {interval:.0f} s"
        if interval > _SLOWEST_SECONDS:
            yield Finding(
                Level.BAD,
                "interval",
                what,
                "rates over 5 minutes, as the rules use them, want four samples: set an interval of 15s",
            )
        elif interval > _BEST_SECONDS:
            yield Finding(Level.NOTE, "interval", what, "with 15s a bad canary is seen sooner")
        else:
            yield Finding(Level.GOOD, "interval", what)


def _series(answers: Answers) -> Iterator[Finding]:
    for row in answers["series"]:
        many = row.value > _MANY_SERIES
        yield Finding(
            Level.NOTE if many else Level.GOOD,
            "series",
            f"app {row.label('app')!r}: {row.value:.0f} series in its largest process",
            "rolloutobs doctor --url, on one pod, names the metrics and labels that cost most"
            if many
            else "",
        )
    for row in answers["dropped"]:
        yield Finding(
            Level.NOTE,
            "series",
            f"app {row.label('app')!r}: relabelling drops {counted(row.value, 'sample')} of a scrape",
            "see that it is none of ours: metricRelabelings of the monitor",
        )


def clock(answers: Answers, unix_time: float) -> Iterator[Finding]:
    """Yield what there is to say about Prometheus' clock beside the one of this machine."""
    for row in answers["now"]:
        difference = row.value - unix_time
        if abs(difference) > _LATE_SECONDS:
            yield Finding(
                Level.NOTE,
                "clock",
                f"Prometheus' clock is {difference:+.0f} s from this machine's",
                "one of them is wrong; a gate has the time of the machine that it runs on",
            )


def loaded(rules: Sequence[Rule] | None, wanted: Sequence[str]) -> Iterator[Finding]:
    """Yield what there is to say about the rules.

    Args:
        rules: what Prometheus has loaded; ``None`` where it does not say.
        wanted: names of ours.
    """
    if rules is None:
        yield Finding(
            Level.NOTE,
            "rules",
            "this server does not list its rules",
            "ask the Prometheus that evaluates them",
        )
        return
    found = {rule.name: rule for rule in rules}
    missing = [name for name in wanted if name not in found]
    if missing:
        yield Finding(
            Level.BAD,
            "rules",
            f"{len(missing)} of {len(wanted)} rules and alerts are not loaded, such as {missing[0]}",
            "apply k8s/rules (rolloutobs render --cluster has them too); if they are applied, see "
            "ruleSelector and ruleNamespaceSelector of the Prometheus resource",
        )
    for name in wanted:
        if name in found and found[name].error:
            yield Finding(
                Level.BAD, "rules", f"{name} cannot be evaluated: {found[name].error}", "see the page /rules"
            )
    if not missing:
        yield Finding(Level.GOOD, "rules", f"all {len(wanted)} recording rules and alerts are loaded")


def version(text: str) -> Iterator[Finding]:
    """Yield what there is to say about the version of Prometheus, as it gives it; empty if it does not."""
    parts = text.split(".")
    if len(parts) > 2 and parts[0].isdigit() and parts[1].isdigit():
        old = (int(parts[0]), int(parts[1])) < _OLDEST
        if old and int(parts[0]) >= 2:
            yield Finding(
                Level.BAD,
                "prometheus",
                f"version {text} does not know keep_firing_for, and refuses the rules",
                "2.42 or newer does",
            )
