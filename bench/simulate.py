"""The published scenarios on the simulator of `rolloutobs.analysis.simulate`, and the policy to judge them.

`python -m bench.rollouts` runs them, and those of other tools beside ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rolloutobs import semconv
from rolloutobs.analysis.model import Stratum
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.simulate import (
    USUAL,
    Ending,
    Mixture,
    Route,
    Stream,
    World,
    run,
    slower,
    study,
    ticks,
)

__all__ = [
    "SCENARIOS",
    "USUAL",
    "Ending",
    "Mixture",
    "Route",
    "Stream",
    "World",
    "bake_of",
    "like_the_study",
    "route",
    "run",
    "strata",
    "study",
    "ticks",
]


def like_the_study() -> Policy:
    """The policy of the published tables: errors and latency only, alpha 5 %."""
    return Policy(alpha=0.05, promote_alpha=0.05).only("errors", "latency")


def bake_of(policy: Policy) -> Policy:
    """The same for half an hour of watching after promotion: only a rollback ends it."""
    return replace(policy, minimum_seconds=1800.0).baking()


def strata(**labels: str) -> Stratum:
    """Return a stratum from labels."""
    return tuple(sorted(labels.items()))


def route(method: str, path: str) -> Stratum:
    """Return the stratum of a server route."""
    return strata(**{semconv.LABEL_METHOD: method, semconv.LABEL_ROUTE: path})


def worse(errors: float, canary: float, **changes: Any) -> World:
    """Return the world of one route with these rates of errors."""
    return World(routes=(Route(errors=errors, canary_errors=canary),), **changes)


def slow(canary: Mixture, **changes: Any) -> World:
    """Return the world of one route whose canary has this latency."""
    return World(routes=(Route(canary_latency=canary),), **changes)


def fifty(broken: int, times: float = 1.0, slower_by: float = 1.0) -> World:
    """Return fifty routes with Zipf weights; on the canary the one of rank `broken` has so many times the
    errors, and takes so many times as long."""
    return World(
        routes=tuple(
            Route(
                route("GET", f"/{rank}"),
                1.0 / rank,
                canary_errors=0.005 * times if rank == broken and times > 1.0 else None,
                canary_latency=slower(USUAL, slower_by) if rank == broken and slower_by > 1.0 else None,
            )
            for rank in range(1, 51)
        )
    )


def callers(broken: bool) -> World:
    """Return two rollouts at once: the caller's canary sends a tenth of the requests to stable and 30 % of
    those to our canary, and eight times as many of them fail, on whichever of our versions. The caller's
    version is a stratum."""
    own = 3.0 if broken else None
    return World(
        routes=tuple(
            Route(
                strata(caller_version=version),
                weight,
                canary_weight=canary_weight,
                errors=errors,
                canary_errors=errors * own if own else None,
            )
            for version, weight, canary_weight, errors in (("4.0", 0.9, 0.7, 0.005), ("4.1", 0.1, 0.3, 0.04))
        )
    )


# What a canary that gets more of the heavy, failing route looks like, and then less of it again.
MIX = (
    Route(route("GET", "/"), 0.70, canary_weight=0.55, errors=0.002),
    Route(route("GET", "/search"), 0.25, canary_weight=0.30, errors=0.005, latency=slower(USUAL, 1.5)),
    Route(route("POST", "/order"), 0.05, canary_weight=0.15, errors=0.03, latency=slower(USUAL, 3.0)),
)
# The slow part takes 2.3 times as long, which doubles p99; 3 % of the requests take about half a second.
TAIL: Mixture = ((0.97, 0.080, 0.6), (0.03, 0.690, 0.5))
BIMODAL: Mixture = ((0.9409, 0.080, 0.6), (0.0291, 0.300, 0.5), (0.03, 0.500, 0.3))

SCENARIOS: Mapping[str, World] = {
    "aa_flat": World(),
    "aa_drift": World(drift=0.5),
    "aa_drift_ramp": World(drift=0.5, share_end=0.5),
    "aa_betabinom": World(noise=0.5),
    "aa_clusters10": World(cluster=10.0),
    "aa_clusters25": World(cluster=25.0),
    "aa_routemix": World(routes=MIX),
    "aa_coldstart": World(cold_seconds=60.0, cold_errors=0.03, cold_slow=3.0),
    "aa_podeffect5": World(canary_pod_slow=0.05),
    "aa_harmless_3pct": World(routes=(Route(canary_errors=0.00515, canary_latency=slower(USUAL, 1.03)),)),
    "ab_err_0.5to1": worse(0.005, 0.01),
    "ab_err_0.1to2": worse(0.001, 0.02),
    "ab_err_1to1.2": worse(0.01, 0.012),
    "ab_err_broken30": worse(0.005, 0.3),
    "ab_err_late10min": worse(0.005, 0.02, onset=600.0),
    "ab_lat_x1.1": slow(slower(USUAL, 1.1)),
    "ab_lat_x1.5": slow(slower(USUAL, 1.5)),
    "ab_lat_tail_p99x2": slow(TAIL),
    "ab_lat_bimodal": slow(BIMODAL),
    "ab_err_0.5to1_w50": worse(0.005, 0.01, share=0.5),
    "ab_at_margin_clusters10": worse(0.005, 0.0085, cluster=10.0),
    "ab_2x_clusters25": worse(0.005, 0.01, cluster=25.0),
    "routes_equal": fifty(0),
    "routes_all_0.5to1": World(
        routes=tuple(Route(r.stratum, r.weight, canary_errors=0.01) for r in fifty(0).routes)
    ),
    "ab_route25_x20": fifty(25, 20.0),
    "ab_route10_x20": fifty(10, 20.0),
    "ab_route25_lat_x3": fifty(25, slower_by=3.0),
    "ab_route10_lat_x3": fifty(10, slower_by=3.0),
    "both_tracks_0.5to10": World(shared_at=0.0, shared_errors=0.095),
    "both_tracks_0.5to10_240s": World(shared_at=240.0, shared_errors=0.095),
    "both_tracks_0.5to10_clusters10": World(shared_at=240.0, shared_errors=0.095, cluster=10.0),
    "both_tracks_lat_x3": World(shared_at=0.0, shared_slow=3.0),
    "both_tracks_lat_x3_240s": World(shared_at=240.0, shared_slow=3.0),
    "share_good": World(weighted=True),
    "share_good_routing_cv.3": World(weighted=True, routing=0.3),
    "share_good_sticky_cv.3": World(weighted=True, routing=0.3, sticky=0.95),
    "share_dead": World(weighted=True, lost=1.0),
    "share_80_lost": World(weighted=True, lost=0.8),
    "share_80_lost_sticky": World(weighted=True, lost=0.8, routing=0.3, sticky=0.95),
    "share_80_lost_late10min": World(weighted=True, lost=0.8, onset=600.0),
    "bake_good": World(share=0.9, past_seconds=600.0),
    "bake_good_clusters10": World(share=0.9, past_seconds=600.0, cluster=10.0),
    "bake_err_0.5to1_late5min": worse(0.005, 0.01, share=0.9, past_seconds=600.0, onset=300.0),
    "bake_err_0.5to2_late5min": worse(0.005, 0.02, share=0.9, past_seconds=600.0, onset=300.0),
    "bake_lat_x1.5_late5min": slow(slower(USUAL, 1.5), share=0.9, past_seconds=600.0, onset=300.0),
    "two_rollouts_good": callers(False),
    "two_rollouts_x3": callers(True),
}
