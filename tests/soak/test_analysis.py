"""A day of looks: what the gate remembers has an end."""

from __future__ import annotations

import gc
import tracemalloc

from bench.analysis_cost import TICK_SECONDS, Fleet
from rolloutobs.analysis.exposition import Exposition
from rolloutobs.analysis.history import Recorder
from rolloutobs.analysis.model import Reading
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.ticks import Ticker
from rolloutobs.analysis.verdict import Engine

LOOKS = 24 * 3600 / TICK_SECONDS
MOMENT_BYTES = 6_000
"""What the plot remembers of a look; it has an end too, but only after a day."""


def test_a_day_of_looks_takes_no_more_memory(scaled):
    fleet, policy = Fleet(3, 120), Policy()
    ticker, engine, recorder = Ticker(policy.compared), Engine(policy), Recorder()
    parsers = [Exposition(ticker.metrics, "shop") for _ in range(fleet.pods)]

    def looks(first, number):
        for look in range(first, first + number):
            targets = {f"pod-{i}": p.parse(fleet.body(i, look + 1)) for i, p in enumerate(parsers)}
            for tick in ticker.advance(Reading(1_700_000_100.0 + look * TICK_SECONDS, targets)).ready:
                recorder.tick(tick, engine.observe(tick))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    third = max(scaled(LOOKS) // 3, 40)
    tracemalloc.start(1)
    try:
        looks(0, third)
        before = looks(third, third)
        after = looks(2 * third, third)
    finally:
        tracemalloc.stop()
    assert after - before < MOMENT_BYTES * min(third, 2000), (before, after)
