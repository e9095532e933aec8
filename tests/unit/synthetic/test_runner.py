from __future__ import annotations

import asyncio

import pytest

from rolloutobs.identity import Track
from synthetic.result import CheckOutcome, Fault, Pair, TrackRun
from synthetic.runner import Schedule, _next_start, run_pairs
from synthetic.target import Proof, Proven, Target


def passed(track: Track) -> TrackRun:
    proof = Proof(Proven.RIGHT, "1", "")
    return TrackRun(Target("http://x", track), CheckOutcome.PASS, 1.0, (), proof, Fault.NONE, "", "")


PAIR = Pair(0.0, Track.STABLE, passed(Track.STABLE), passed(Track.CANARY))


class Runner:
    """Gives the same pair again and again; the one of number `hang` never ends."""

    def __init__(self, hang: int | None = None) -> None:
        self.hang = hang
        self.started = 0
        self.hanging = asyncio.Event()
        self.cancelled = False

    async def run(self) -> Pair:
        self.started += 1
        if self.started == self.hang:
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        return PAIR


async def test_so_many_pairs_one_after_the_other():
    runner, published = Runner(), []
    await run_pairs(runner, Schedule(count=3), published.append, asyncio.Event())
    assert published == [PAIR] * 3
    assert runner.started == 3


async def test_pairs_go_on_until_stopped():
    stop, published = asyncio.Event(), []

    def publish(pair: Pair) -> None:
        published.append(pair)
        if len(published) == 4:
            stop.set()

    await run_pairs(Runner(), Schedule(every_seconds=0.001), publish, stop)
    assert len(published) == 4


async def test_stopping_gives_up_the_pair_under_way_and_does_not_publish_it():
    runner, stop, published = Runner(hang=2), asyncio.Event(), []
    pairs = asyncio.create_task(run_pairs(runner, Schedule(), published.append, stop))
    await runner.hanging.wait()
    stop.set()
    await pairs
    assert runner.cancelled
    assert published == [PAIR]


async def test_stopping_does_not_wait_for_the_next_start():
    stop, published = asyncio.Event(), []
    pairs = asyncio.create_task(
        run_pairs(
            Runner(), Schedule(every_seconds=3600), lambda pair: (published.append(pair), stop.set()), stop
        )
    )
    await asyncio.wait_for(pairs, 30)
    assert published == [PAIR]


async def test_a_runner_that_breaks_is_heard():
    class Broken:
        async def run(self) -> Pair:
            raise OSError("no browser any more")

    with pytest.raises(OSError, match="no browser any more"):
        await run_pairs(Broken(), Schedule(), print, asyncio.Event())


@pytest.mark.parametrize(
    ("due", "now", "every", "start"),
    [
        (100, 100.4, 5, 105),
        (100, 104.9, 5, 105),
        (100, 105.1, 5, 110),
        (100, 117, 5, 120),
        (100, 103, None, 103),
    ],
)
def test_starts_stay_on_their_grid_and_missed_ones_are_skipped(due, now, every, start):
    assert _next_start(due, now, every) == start
