"""Whether stable and canary can be told apart, and compared. Pure: answers in, findings out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from rolloutobs import foreign, semconv
from rolloutobs.checkup.answers import APPS, Answers, Row, counted, job_of
from rolloutobs.checkup.model import Finding, Level
from rolloutobs.identity import Track

__all__ = ["QUERIES", "check"]

_TRACKS: Final = frozenset(track.value for track in Track)
_BUCKETS: Final = "|".join(
    f"{name}_bucket"
    for name in (semconv.HTTP_REQUEST_DURATION_SECONDS, semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS)
)
_REQUESTS: Final = "|".join(
    (semconv.HTTP_REQUESTS_TOTAL, f"{semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS}_count")
)
# A slow-down by less than the distance of two bounds may stay within one bucket; half as slow again is what
# most teams want to hear of, and our own bounds are that far apart. See docs/verdict.md.
_FINE_ENOUGH: Final = 2.0
# Where latencies of most apps are; beyond, all bounds are coarse.
_RANGE_SECONDS: Final = (0.005, 10.0)
_NAME: Final = "label_app_kubernetes_io_name"

_JOURNEYS: Final = f'{semconv.SYNTHETIC_CHECK_RUNS_TOTAL}{{{APPS}, {semconv.LABEL_STEP}=""}}'

QUERIES: Final[Mapping[str, str]] = {
    "sides": f"count by (namespace, app, version, track) ({semconv.APP_BUILD_INFO}{{{APPS}}})",
    "with a pod": f'count by (namespace, app) ({semconv.APP_BUILD_INFO}{{{APPS}, pod!=""}})',
    "not scraped": (
        f"count by (namespace, {_NAME}) ({foreign.POD_LABELS}{{{_NAME}!=''}} "
        f'and on (namespace, pod) ({foreign.POD_PHASE}{{phase="Running"}} == 1) '
        f"unless on (namespace, pod) {semconv.APP_BUILD_INFO})"
    ),
    "scraped twice": (
        f"count by (app, instance) (count by (app, instance, job) ({semconv.APP_BUILD_INFO}{{{APPS}}})) > 1"
    ),
    "no version": f'count by (job, namespace) ({{__name__=~"{_REQUESTS}", version=""}})',
    "checks": f"sum by (app) (increase({_JOURNEYS}[1h])) > 0",
    "marked": f'count by (app) ({{__name__=~"{_REQUESTS}", {APPS}, synthetic="true"}})',
    "buckets": f'count by (app, version, track, le) ({{__name__=~"{_BUCKETS}", {APPS}}})',
}
"""By what they tell; each is an instant query."""


def check(answers: Answers) -> Iterator[Finding]:
    """Yield what there is to say about the sides of every app."""
    yield from _tracks(answers["sides"])
    yield from _scraped(answers)
    yield from _synthetic(answers)
    yield from _buckets(answers["buckets"])


def _tracks(rows: Sequence[Row]) -> Iterator[Finding]:
    apps: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.label("app"):
            apps[row.label("namespace"), row.label("app")][row.label("track")].add(row.label("version"))
    for (namespace, app), tracks in apps.items():
        yield _sides(f"app {app!r}" + (f" in {namespace!r}" if namespace else ""), tracks)


def _sides(app: str, tracks: Mapping[str, set[str]]) -> Finding:
    versions = {version for found in tracks.values() for version in found}
    strange = set(tracks) - _TRACKS - {""}
    if strange:
        return Finding(
            Level.BAD,
            "track",
            f"{app}: the track is {min(strange)!r}",
            "use stable, canary or baseline, as the label rolloutobs.io/track or ROLLOUTOBS_TRACK",
        )
    if "" in tracks and len(versions) > 1:
        return Finding(
            Level.BAD,
            "track",
            f"{app}: {len(versions)} versions run, and {_named(tracks[''])} "
            f"{'has' if len(tracks['']) == 1 else 'have'} no track",
            "put the label rolloutobs.io/track on the pods: in the templates of two Deployments, in "
            "canaryMetadata and stableMetadata of an Argo Rollout, by a PodMonitor under Flagger "
            "(rolloutobs render writes each)",
        )
    if Track.CANARY.value in tracks and Track.STABLE.value not in tracks:
        return Finding(
            Level.BAD,
            "track",
            f"{app}: only the canary is scraped, {_named(tracks['canary'])}",
            "see whether stable's pods have the label of the monitor, and its port",
        )
    if Track.CANARY.value in tracks:
        return Finding(
            Level.GOOD,
            "track",
            f"{app}: {_named(tracks['stable'])} is stable, {_named(tracks['canary'])} canary",
        )
    return Finding(
        Level.NOTE, "track", f"{app}: there is no canary", "look again while a rollout is going on"
    )


def _named(versions: set[str]) -> str:
    return ", ".join(repr(version) for version in sorted(versions))


def _scraped(answers: Answers) -> Iterator[Finding]:
    known = {(row.label("namespace"), row.label("app")) for row in answers["with a pod"]}
    for row in answers["not scraped"]:
        if (row.label("namespace"), row.label(_NAME)) in known:
            yield Finding(
                Level.BAD,
                "targets",
                f"app {row.label(_NAME)!r} in {row.label('namespace')!r}: "
                f"{counted(row.value, 'pod runs and shows', 'pods run and show')} no "
                f"{semconv.APP_BUILD_INFO}",
                "they lack the label of the monitor, or the version in them is not instrumented",
            )
    for row in answers["scraped twice"]:
        yield Finding(
            Level.BAD,
            "targets",
            f"app {row.label('app')!r}: {row.label('instance')} is scraped by {row.value:.0f} jobs",
            "each of its requests counts so many times: leave it to one monitor",
        )
    for row in answers["no version"]:
        yield Finding(
            Level.NOTE,
            "version",
            f"{job_of(row)} has {row.value:.0f} series of requests without a version",
            "an app that is not instrumented by us, or a relabelling rule that drops the label",
        )


def _synthetic(answers: Answers) -> Iterator[Finding]:
    marked = {row.label("app") for row in answers["marked"]}
    for row in answers["checks"]:
        app = row.label("app")
        if app in marked:
            yield Finding(Level.GOOD, "synthetic", f"app {app!r} counts what checks ask for by itself")
        else:
            yield Finding(
                Level.BAD,
                "synthetic",
                f"app {app!r}: {counted(row.value, 'check has', 'checks have')} run within an hour, and no "
                "request of it is marked synthetic: they count as users'",
                "with ROLLOUTOBS_SECRET the app and the checks must have the same one; without, see which "
                "proxy drops the header baggage",
            )


def _buckets(rows: Sequence[Row]) -> Iterator[Finding]:
    bounds: dict[str, dict[tuple[str, str], set[float]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        side = row.label("version"), row.label("track")
        bounds[row.label("app")][side].add(float(row.label("le")))
    for app, sides in bounds.items():
        distinct = {frozenset(found) for found in sides.values()}
        if len(distinct) > 1:
            yield Finding(
                Level.BAD,
                "buckets",
                f"app {app!r}: {len(distinct)} sets of bounds among its versions and tracks",
                "durations are compared by the bounds that all have: give every version the same buckets",
            )
        yield _fineness(app, frozenset.intersection(*distinct))


def _fineness(app: str, bounds: frozenset[float]) -> Finding:
    low, high = _RANGE_SECONDS
    within = sorted(bound for bound in bounds if low <= bound <= high)
    steps = [(second / first, first, second) for first, second in pairwise(within)]
    if not steps:
        return Finding(
            Level.BAD,
            "buckets",
            f"app {app!r}: fewer than two bounds between {low:g} and {high:g} s",
            "durations cannot be compared; leave duration_bounds at its default",
        )
    factor, first, second = max(steps)
    if factor > _FINE_ENOUGH:
        return Finding(
            Level.NOTE,
            "buckets",
            f"app {app!r}: the bounds {first:g} and {second:g} s are a factor {factor:.3g} apart",
            "a canary slower by less than that may not be seen in between; our default is 1.5",
        )
    return Finding(
        Level.GOOD, "buckets", f"app {app!r}: {len(bounds)} bounds, at most a factor {factor:.3g} apart"
    )
