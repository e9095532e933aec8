"""The simulated rollouts: the other tools' rules on plain counts, the yardsticks, the tables."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import lognorm

from bench.rollouts import table
from bench.rollouts.__main__ import main
from bench.rollouts.cells import CELLS
from bench.rollouts.course import Course, Totals
from bench.rollouts.oracle import extra_rate, known_bound, oracle, two_sample_bound
from bench.rollouts.play import play
from bench.rollouts.rules import RULES
from bench.simulate import SCENARIOS, like_the_study, ticks

BOUNDS = (0.1, 0.25, 0.5, 1.0)
FAST, SLOW = (90.0, 9.0, 1.0, 0.0, 0.0), (50.0, 20.0, 20.0, 10.0, 0.0)


def totals(
    errors: float, stable_errors: float = 0.5, *, buckets: tuple[float, ...] = FAST, requests: float = 100.0
) -> Totals:
    """Return half an hour of the same tick again and again: 100 requests a track."""
    ends = np.arange(1, 121) * 15.0
    each = np.ones(120)
    return Totals(
        ends,
        15.0,
        BOUNDS,
        errors * each,
        requests * each,
        stable_errors * each,
        100.0 * each,
        np.outer(each, buckets) * requests / 100.0,
        np.outer(each, FAST),
    )


GOOD = totals(0.5)
FAILING, TARDY, SILENT = totals(10.0), totals(0.5, buckets=SLOW), totals(0.0, requests=0.0)


@pytest.mark.parametrize(
    ("rule", "good", "failing", "tardy", "silent"),
    [
        ("Flagger", Course(promote=600.0), Course(300.0), Course(300.0), Course(300.0)),
        ("ratio at once", Course(promote=600.0), Course(15.0), Course(15.0), Course(promote=600.0)),
        ("ratio for 5 min", Course(promote=600.0), Course(315.0), Course(315.0), Course(promote=600.0)),
        ("Kayenta", Course(promote=1800.0), Course(300.0), Course(300.0), Course(promote=1800.0)),
        ("repeated z", Course(), Course(15.0), Course(15.0), Course()),
    ],
)
def test_each_rule_says_what_its_tool_says(
    rule: str, good: Course, failing: Course, tardy: Course, silent: Course
) -> None:
    said = [RULES[rule](each) for each in (GOOD, FAILING, TARDY, SILENT)]
    assert said == [good, failing, tardy, silent]


def test_a_promotion_ends_the_ratio_rule() -> None:
    late = replace(GOOD, canary_errors=np.where(GOOD.ends > 600.0, 50.0, 0.5))
    assert RULES["ratio at once"](late) == Course(promote=600.0)


def test_quantiles_are_those_of_prometheus() -> None:
    # Rank 99 of 100 is the last of (0.1, 0.25]; above all bounds the highest is the answer.
    buckets = np.array([FAST, (0.0, 0.0, 0.0, 0.0, 10.0), (0.0,) * 5, (0.0, 100.0, 0.0, 0.0, 0.0)])
    found = GOOD.quantile(0.99, buckets)
    np.testing.assert_allclose(found, [0.25, 1.0, math.nan, 0.1 + 0.99 * 0.15])


def test_windows_are_sums_of_the_last_seconds() -> None:
    found = GOOD.window(np.arange(1.0, 121.0), 60.0)
    assert found[:6].tolist() == [1.0, 3.0, 6.0, 10.0, 14.0, 18.0]


def test_bounds() -> None:
    world, policy = SCENARIOS["ab_err_0.5to1"], like_the_study()
    kl = 0.01 * math.log(2.0) + 0.99 * math.log(0.99 / 0.995)
    assert known_bound(world, 0.05) == pytest.approx(math.log(20.0) / kl)
    # The tolerance and a stable that must be estimated can only cost more; half of the traffic even more.
    known, seen = known_bound(world, 0.05), two_sample_bound(world, policy)
    assert known < seen < two_sample_bound(replace(world, share=0.5), policy)
    # Inside the tolerance nothing can be told.
    assert two_sample_bound(SCENARIOS["ab_lat_x1.1"], policy) > 20 * two_sample_bound(
        SCENARIOS["ab_lat_x1.5"], policy
    )
    assert extra_rate(world) == pytest.approx(0.005)

    def slow(factor: float) -> float:
        parts = ((0.97, 0.08, 0.6), (0.03, 0.3, 0.5))
        return sum(part * lognorm.sf(0.25, sigma, scale=median * factor) for part, median, sigma in parts)

    assert extra_rate(SCENARIOS["ab_lat_x1.5"]) == pytest.approx(slow(1.5) - slow(1.0))


def test_the_oracle_needs_about_its_bound() -> None:
    world = replace(SCENARIOS["ab_err_0.1to2"], rps=100.0, past_seconds=15.0, seconds=300.0)
    used = []
    for seed in range(200):
        seen = Totals.of(list(ticks(world, np.random.default_rng(seed))))
        end = oracle(seen, world, 0.05).rollback
        assert end is not None
        used.append(float(seen.canary[seen.ends <= end].sum()))
    # It stops at the end of a tick of 75 requests, and with a whole error too much.
    assert known_bound(world, 0.05) < np.mean(used) < known_bound(world, 0.05) + 150.0


def test_a_cell_is_the_same_for_the_same_seed() -> None:
    (cell,) = (each for each in CELLS if each.scenario == "ab_err_broken30")
    one, two = (play(cell, 1000.0, 1, 7) for _ in range(2))
    assert {**one, "cpu_seconds": 0} == {**two, "cpu_seconds": 0}
    assert one["policies"]["rolloutobs"]["rollback"] == [100.0, 60.0]
    assert one["policies"]["oracle"]["rollback"] == [100.0, 15.0]


def test_the_command_prints_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rollouts", "ab_err_broken30", "--runs", "1", "--rps", "1000"])
    main()
    printed = capsys.readouterr().out
    assert "| errors 0.5 -> 30 % | - / - / - / 100 @60 | - / - / - / 100 @300 |" in printed
    monkeypatch.setattr("sys.argv", ["rollouts", "no_such_thing"])
    with pytest.raises(SystemExit):
        main()


def test_every_cell_is_published() -> None:
    kept = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    runs = {cell.scenario: {rps: each["runs"] for rps, each in kept[cell.scenario].items()} for cell in CELLS}
    assert runs == {cell.scenario: {f"{rps:g}": cell.runs_at(rps) for rps in cell.rps} for cell in CELLS}
    assert set(kept) == set(runs)
