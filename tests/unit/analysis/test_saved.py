"""A gate's state: through JSON and back, and a gate that goes on from it."""

import json
import math
from dataclasses import replace

import pytest

from rolloutobs.analysis.gate import Gate, RolloutChangedError
from rolloutobs.analysis.history import NOTHING, History, Moment
from rolloutobs.analysis.model import Decision, HistogramPair, PairCount, Side
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.report import to_json
from rolloutobs.analysis.saved import Saved, from_mapping, to_mapping
from rolloutobs.analysis.ticks import Ticker, TickSettings
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import SourceError, StateError
from tests.unit.analysis.test_gate import SETTINGS, FakeSource, Time

STRATUM = (("method", "POST"), ("route", "/checkout"))
SAVED = Saved(
    app="shop",
    began=1000.25,
    at=1075.5,
    zero=1020.125,
    canary_version="1.2.0",
    engine={"format": 1},
    decision="hold",
    acted=("hold",),
    traffic={"canary": 3, "stable": 40},
    history=History(
        moments=(
            Moment(-15.0, 0.0, {"errors": NOTHING}),
            Moment(
                0.0,
                15.0,
                {"errors": PairCount(1, 2, 3, 4)},
                {"errors": {Side.ROLLBACK: -math.inf, Side.PROMOTE: 1 / 3}},
                frozenset({"canary"}),
            ),
        ),
        strata={"errors": {STRATUM: PairCount(1, 2, 3, 4), (): NOTHING}},
        histograms={"latency": {STRATUM: HistogramPair((0.1, 1.0), (1, 2, 3), (4, 5, 6))}},
        displays={"js_errors": {("canary", "a81f"): 7}},
        texts={"a81f": "TypeError"},
    ),
)


def test_through_json_and_back_nothing_changes():
    assert from_mapping(json.loads(json.dumps(to_mapping(SAVED)))) == SAVED
    nothing = replace(SAVED, zero=None, history=History())
    assert from_mapping(json.loads(json.dumps(to_mapping(nothing)))) == nothing


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([], "format is None"),
        ({"gate": 0}, "format is 0"),
        ({"gate": 1}, "damaged"),
        ({**to_mapping(SAVED), "moments": [{}]}, "damaged"),
        ({**to_mapping(SAVED), "strata": 5}, "damaged"),
        ({**to_mapping(SAVED), "at": "now"}, "damaged"),
    ],
)
def test_what_is_no_state_is_refused(plain, words):
    with pytest.raises(StateError, match=words):
        from_mapping(plain)


POLICY = Policy.from_mapping({"tick_seconds": 10, "warmup_seconds": 0, "minimum_seconds": 20})


class Source(FakeSource):
    """Requests of the policy's own metric."""

    async def read(self):
        found = await super().read()
        named = {
            t: tuple(replace(s, name="http_requests_total") for s in samples)
            for t, samples in found.targets.items()
        }
        return replace(found, targets=named)


def gate(engine, time, source, deadline, zero=None):
    ticker = Ticker(POLICY.signals, TickSettings(zero=zero))
    return Gate(source, ticker, engine, replace(SETTINGS, deadline_seconds=deadline), time.clock)


async def test_a_gate_that_was_stopped_and_one_that_was_not_say_the_same():
    """The second gate's first reading is where the first gate's last one was, as with a Prometheus."""
    whole_time = Time()
    whole = await gate(Engine(POLICY), whole_time, Source(whole_time), 200).run()

    time = Time()
    source, engine = Source(time), Engine(POLICY)
    first = gate(engine, time, source, 100)
    last = await first.run()
    saved = from_mapping(json.loads(json.dumps(to_mapping(first.saved(engine.state())))))
    assert (saved.canary_version, saved.zero, saved.at) == ("1.2.0", 1000, 1100)
    source.totals = {
        track: total - by for (track, total), by in zip(source.totals.items(), (10, 5), strict=True)
    }
    resumed = Engine.resumed(POLICY, saved.engine)
    second = gate(resumed, time, source, 200, zero=saved.zero)
    second.resume(saved, resumed.verdict())
    report = await second.run()
    assert to_json(report) == to_json(whole)
    assert last.verdict.at == 100


async def test_a_decision_is_told_again_without_a_tick():
    time = Time()
    source = Source(time)
    decided = replace(Engine(POLICY).verdict(), decision=Decision.ROLLBACK, reason="ROLLBACK before")
    again = gate(Engine(POLICY), time, source, 200, zero=900.0)
    again.resume(replace(SAVED, zero=900.0, decision="rollback"), decided)
    report = await again.run()
    assert report.verdict.reason == "ROLLBACK before"
    assert report.began == SAVED.began
    assert time.now == 1000


async def test_the_state_of_another_canary_is_not_of_this_rollout():
    time = Time()
    other = gate(Engine(POLICY), time, Source(time), 200, zero=900.0)
    other.resume(replace(SAVED, canary_version="1.1.9"), None)
    with pytest.raises(RolloutChangedError, match=r"of canary 1\.1\.9, the canary is 1\.2\.0 now"):
        await other.run()


async def test_the_state_of_another_canary_is_refused_when_the_next_one_comes_late():
    """A gate begins anew with its rollout: the old canary is gone, the new one has not started yet."""
    time = Time()
    late = gate(Engine(POLICY), time, _Late(time), 200, zero=900.0)
    late.resume(replace(SAVED, canary_version="1.1.9"), None)
    with pytest.raises(RolloutChangedError, match=r"of canary 1\.1\.9, the canary is 1\.2\.0 now"):
        await late.run()
    assert time.now == 1020


class _Late(Source):
    """Its canary comes after 20 s."""

    async def read(self):
        found = await super().read()
        if self.time.now >= 1020:
            return found
        stable = [s for s in found.targets["pod"] if s.labels["track"] == "stable"]
        return replace(found, targets={"pod": tuple(stable)})


async def test_a_decision_that_nobody_can_tell_the_rollout_of_is_none():
    time = Time()
    source = Source(time)
    source.failing = True
    decided = replace(Engine(POLICY).verdict(), decision=Decision.ROLLBACK)
    again = gate(Engine(POLICY), time, source, 200, zero=990.0)
    again.resume(replace(SAVED, zero=990.0, decision="rollback"), decided)
    with pytest.raises(SourceError, match="no target answers"):
        await again.run()


async def test_while_undecided_a_source_that_is_down_is_waited_for():
    time = Time()
    source = Source(time)
    source.failing = True
    again = gate(Engine(POLICY), time, source, 200, zero=990.0)
    again.resume(replace(SAVED, zero=990.0), None)
    report = await again.run()
    assert report.verdict.decision is Decision.HOLD
    assert time.now == 1190
