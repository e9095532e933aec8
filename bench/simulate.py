"""The published scenarios on the simulator of `rolloutobs.analysis.simulate`.

`python bench/simulate.py` prints the table. Everything is seeded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace

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
    "Ending",
    "Mixture",
    "Route",
    "Stream",
    "World",
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


def _zipf(broken: int, times: float) -> tuple[Route, ...]:
    """Fifty routes with Zipf weights; the one of rank `broken` has so many times the errors on the canary."""
    return tuple(
        Route(route("GET", f"/{rank}"), 1.0 / rank, canary_errors=0.005 * times if rank == broken else None)
        for rank in range(1, 51)
    )


SCENARIOS: Mapping[str, World] = {
    "aa_flat": World(),
    "aa_drift": World(drift=0.5),
    "aa_clusters10": World(cluster=10.0),
    "aa_podeffect5": World(canary_pod_slow=0.05),
    "aa_harmless_3pct": World(routes=(Route(canary_latency=slower(USUAL, 1.03)),)),
    "ab_err_0.5to1": World(routes=(Route(canary_errors=0.01),)),
    "ab_err_0.1to2": World(routes=(Route(errors=0.001, canary_errors=0.02),)),
    "ab_err_broken30": World(routes=(Route(canary_errors=0.3),)),
    "ab_route10_x20": World(routes=_zipf(10, 20.0)),
    "both_tracks_0.5to10": World(shared_at=0.0, shared_errors=0.095),
    "ab_err_late10min": World(routes=(Route(canary_errors=0.03),), onset=600.0),
    "share_good": World(weighted=True),
    "share_good_routing_cv.3": World(weighted=True, routing=0.3),
    "share_dead": World(weighted=True, lost=1.0),
    "share_80_lost": World(weighted=True, lost=0.8),
    "share_80_lost_late10min": World(weighted=True, lost=0.8, onset=600.0),
    "bake_good": World(share=0.9),
    "bake_good_clusters10": World(share=0.9, cluster=10.0),
    "bake_err_0.5to2_late5min": World(share=0.9, routes=(Route(canary_errors=0.02),), onset=300.0),
    "bake_lat_x1.5_late5min": World(
        share=0.9, routes=(Route(canary_latency=slower(USUAL, 1.5)),), onset=300.0
    ),
    "ab_lat_x1.1": World(routes=(Route(canary_latency=slower(USUAL, 1.1)),)),
    "ab_lat_x1.5": World(routes=(Route(canary_latency=slower(USUAL, 1.5)),)),
    "ab_lat_bimodal": World(
        routes=(Route(canary_latency=((0.95, 0.08, 0.6), (0.03, 0.3, 0.5), (0.02, 1.5, 0.3))),)
    ),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--rps", type=float, nargs="*", default=[10.0, 100.0, 1000.0])
    parser.add_argument("scenarios", nargs="*", default=[])
    given = parser.parse_args()
    policy = like_the_study()
    print(f"{'scenario':26}" + "".join(f"{rps:>8g} rps: rollback / promote      " for rps in given.rps))
    for name in given.scenarios or SCENARIOS:
        cells, began = [], time.perf_counter()
        for rps in given.rps:
            baking = name.startswith("bake_")
            past = 600.0 if baking else SCENARIOS[name].past_seconds
            world = replace(SCENARIOS[name], rps=rps, past_seconds=past)
            found = study(bake_of(policy) if baking else policy, world, given.runs)
            back, forth = found["rollback"], found["promote"]
            cells.append(f"{back[0]:5.0f} % @{back[1]:5.0f} / {forth[0]:3.0f} % @{forth[1]:5.0f}    ")
        print(f"{name:26}" + "".join(cells) + f"  ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
