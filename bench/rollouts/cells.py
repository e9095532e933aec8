"""The cells of the published tables: which scenario, at which traffic, how often, and the name of its row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CELLS", "RPS", "VIEWS_PER_SECOND", "Cell", "of"]

RPS = (1.0, 10.0, 100.0, 1000.0)
VIEWS_PER_SECOND = 50.0
_FASTER = RPS[1:]
_BUSY = RPS[2:]


@dataclass(frozen=True, slots=True)
class Cell:
    """One row: a scenario of `bench.simulate` (or of `bench.rollouts.forged`) at each of `rps` requests per
    second, `runs` times each."""

    scenario: str
    title: str
    group: str
    rps: tuple[float, ...] = RPS
    runs: int = 20
    busy_runs: int | None = None
    """So many from 100 requests a second on; ``None``: as many as elsewhere."""
    beyond: bool = False
    """The canary is beyond a margin from its start: whatever promotes it is wrong."""
    yardstick: bool = False
    """Extra failed requests are compared with the oracle's."""

    def runs_at(self, rps: float) -> int:
        """Return how many rollouts are published at that traffic."""
        return self.runs if self.busy_runs is None or rps < _BUSY[0] else self.busy_runs


def of(group: str) -> list[Cell]:
    """Return the cells of a group, in the order of its table."""
    return [cell for cell in CELLS if cell.group == group]


def _cells() -> Iterator[Cell]:
    for scenario, title in (
        ("aa_flat", "same version"),
        ("aa_drift_ramp", "traffic and errors drift by half, share ramps from 5 to 50 %"),
        ("aa_betabinom", "error rates vary, cv .5 a tick and track"),
        ("aa_clusters10", "errors in clusters of 10"),
        ("aa_clusters25", "errors in clusters of 25"),
        ("aa_routemix", "canary gets another mix of routes"),
        ("aa_coldstart", "cold for 60 s: 3 % errors, 3x as slow"),
        ("aa_podeffect5", "one canary pod, pods differ by 5 %"),
        ("aa_harmless_3pct", "3 % worse, inside the tolerance"),
    ):
        # With a request a second nothing is decided in half an hour, be it good or slightly worse.
        rates = RPS if scenario == "aa_flat" else _FASTER
        yield Cell(scenario, title, "good", rates, runs=40, busy_runs=100)
    for scenario, title in (
        ("ab_err_0.5to1", "errors 0.5 -> 1 %"),
        ("ab_err_0.1to2", "errors 0.1 -> 2 %"),
        ("ab_err_broken30", "errors 0.5 -> 30 %"),
        ("ab_lat_x1.5", "latency x1.5"),
        ("ab_lat_tail_p99x2", "p99 x2, only the tail"),
        ("ab_lat_bimodal", "3 % of requests at 500 ms"),
    ):
        yield Cell(scenario, title, "worse", runs=40, beyond=True, yardstick=True)
    for scenario, title, runs, beyond in (
        ("ab_err_0.5to1_w50", "errors 0.5 -> 1 %, share 50 %", 40, True),
        ("ab_err_late10min", "errors 0.5 -> 2 % from minute 10 on", 40, False),
        ("ab_err_1to1.2", "errors 1 -> 1.2 %, inside the margin", 20, False),
        ("ab_lat_x1.1", "latency x1.1, inside the tolerance", 20, False),
        ("ab_at_margin_clusters10", "errors 0.5 -> .85 %, clusters of 10: at the margin", 20, True),
        ("ab_2x_clusters25", "errors 0.5 -> 1 %, clusters of 25", 20, True),
    ):
        yield Cell(scenario, title, "worse", _FASTER, runs=runs, beyond=beyond)
    yield Cell("routes_equal", "50 routes, same version", "routes", _BUSY)
    yield Cell("routes_all_0.5to1", "all of 50 routes, errors 0.5 -> 1 %", "routes", RPS[3:], beyond=True)
    yield Cell("ab_route25_x20", "rank 25 of 50 (0.9 %), errors x20", "routes", _BUSY, beyond=True)
    yield Cell("ab_route10_x20", "rank 10 of 50 (2.2 %), errors x20", "routes", _BUSY, beyond=True)
    yield Cell("ab_route25_lat_x3", "rank 25, latency x3", "routes", RPS[3:], beyond=True)
    yield Cell("ab_route10_lat_x3", "rank 10, latency x3", "routes", RPS[2:3], beyond=True)
    for scenario, title in (
        ("both_tracks_0.5to10", "both tracks, errors 0.5 -> 10 % from the start"),
        ("both_tracks_0.5to10_240s", "both tracks, errors 0.5 -> 10 % from 240 s on"),
        ("both_tracks_0.5to10_clusters10", "the same, errors in clusters of 10"),
        ("both_tracks_lat_x3", "both tracks, latency x3 from the start"),
        ("both_tracks_lat_x3_240s", "both tracks, latency x3 from 240 s on"),
    ):
        yield Cell(scenario, title, "shared", _BUSY)
    for scenario, title, rps in (
        ("share_good", "gets its traffic", _BUSY),
        ("share_good_routing_cv.3", "with routing noise, cv .3 a tick", _BUSY),
        ("share_good_sticky_cv.3", "with sticky routing noise, cv .3, correlation .95 a tick", _BUSY),
        ("share_dead", "dead", RPS),
        ("share_80_lost", "80 % lost", RPS),
        ("share_80_lost_sticky", "80 % lost, sticky routing noise", RPS),
        ("share_80_lost_late10min", "80 % lost from minute 10 on", _FASTER),
    ):
        yield Cell(scenario, title, "share", rps)
    for scenario, title in (
        ("bake_good", "same version"),
        ("bake_good_clusters10", "same version, errors in clusters of 10"),
        ("bake_err_0.5to2_late5min", "errors 0.5 -> 2 %"),
        ("bake_err_0.5to1_late5min", "errors 0.5 -> 1 %"),
        ("bake_lat_x1.5_late5min", "latency x1.5"),
    ):
        yield Cell(scenario, title, "bake", _BUSY)
    yield Cell("two_rollouts_good", "the caller rolls out too, our canary is good", "callers", _BUSY)
    yield Cell("two_rollouts_x3", "the caller rolls out too, our canary has 3x the errors", "callers", _BUSY)
    for scenario, title in (
        ("views_good", "nothing forged, good pages"),
        ("forged_25_of_1", "25 forged from one group of networks"),
        ("forged_100_of_1", "100 from one"),
        ("forged_25_of_5", "25 from five"),
        ("views_0.5to2", "nothing forged, errors 0.5 -> 2 %"),
        ("views_0.5to5", "nothing forged, errors 0.5 -> 5 %"),
    ):
        yield Cell(scenario, title, "forged", (VIEWS_PER_SECOND,), runs=10)


CELLS = tuple(_cells())
