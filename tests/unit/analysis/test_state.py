"""The engine's state: saved and resumed at any tick, nothing changes."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulate import Route, Stream, World, route, strata, ticks
from rolloutobs.analysis import state as states
from rolloutobs.analysis.model import HistogramPair, PairCount, PodCount, PodHistogram, PodUse, Tick
from rolloutobs.analysis.policy import Past, Policy, Resources
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import StateError

BOUNDS = (0.1, 0.5)
QUICK = replace(
    Policy(),
    warmup_seconds=20.0,
    minimum_seconds=30.0,
    restart_seconds=40.0,
    past=Past(minimum_seconds=30.0, block_seconds=15.0, after_seconds=30.0, windows_seconds=(30.0, 60.0)),
    resources=Resources(minimum_seconds=20.0, memory_limit_bytes=5e8),
)


def through_json(engine: Engine) -> Engine:
    return Engine.resumed(engine.policy, json.loads(json.dumps(engine.state(), allow_nan=False)))


count = st.tuples(st.integers(0, 30), st.integers(0, 300), st.integers(0, 30), st.integers(0, 300)).map(
    lambda n: PairCount(min(n[0], n[1]), n[1], min(n[2], n[3]), n[3])
)
buckets = st.tuples(*[st.integers(0, 60)] * 3)
histogram = st.builds(HistogramPair, st.just(BOUNDS), buckets, buckets)
use = st.builds(
    PodUse,
    st.sampled_from("abc"),
    st.booleans(),
    st.floats(0.0, 900.0),
    st.just(15.0),
    st.none() | st.floats(1e6, 1e9),
    st.none() | st.floats(0.0, 15.0),
    st.integers(0, 500).map(float),
)
stratum = st.sampled_from([route("GET", "/"), route("POST", "/buy"), route("GET", "")])


@st.composite
def some_ticks(draw: st.DrawFn) -> list[Tick]:
    end, found = -60.0, []
    for length in draw(st.lists(st.sampled_from([5.0, 15.0, 15.0, 30.0]), min_size=6, max_size=16)):
        start, end = end, end + length
        found.append(
            Tick(
                start,
                end,
                counts={
                    "errors": draw(st.dictionaries(stratum, count, max_size=3)),
                    "js_errors": draw(st.dictionaries(st.just(strata(route="/")), count)),
                    "js_errors_signed": draw(st.dictionaries(st.just(strata(route="/")), count)),
                },
                sources={"js_errors_signed": draw(st.dictionaries(st.sampled_from("abc"), count))},
                baseline=draw(st.sampled_from([frozenset(), frozenset({"errors"})])),
                aside={"errors": 100.0},
                uses=tuple(draw(st.lists(use, max_size=3))),
                histograms={"latency": draw(st.dictionaries(stratum, histogram, max_size=3))},
                stable_pods={
                    "errors": {"a": PodCount(1, 50.0), "b": PodCount(draw(st.integers(0, 9)), 50.0)}
                },
                stable_pod_histograms={
                    "latency": {pod: PodHistogram(BOUNDS, draw(buckets)) for pod in ("a", "b")}
                },
                by_pod_age=draw(st.booleans()),
                stale=frozenset(draw(st.sets(st.sampled_from(["canary", "stable"])))),
                canary_version=draw(st.sampled_from(["", "1.2.0"])),
            )
        )
    return found


@given(some_ticks(), st.sets(st.integers(0, 15)))
@settings(max_examples=12, deadline=None)
def test_save_and_resume_change_nothing(history: list[Tick], stops: set[int]) -> None:
    straight, interrupted = Engine(QUICK), Engine(QUICK)
    for i, tick in enumerate(history):
        if i in stops:
            interrupted = through_json(interrupted)
        assert interrupted.observe(tick) == straight.observe(tick)
    assert interrupted.state() == straight.state()


def test_a_rollback_and_its_sentence_survive() -> None:
    world = World(rps=200.0, routes=(Route(canary_errors=0.3),), seconds=150.0, past_seconds=60.0)
    engine = Engine()
    for tick in ticks(world, np.random.default_rng(1)):
        verdict = engine.observe(tick)
    resumed = through_json(engine)
    assert verdict.decision == "rollback"
    assert resumed.verdict() == verdict


def test_everything_that_a_judge_can_hold_is_kept() -> None:
    """The default policy with real users, checks and fifty routes: no class is missing in the table."""
    routes = tuple(Route(route("GET", f"/{i}"), 1.0 / (1 + i)) for i in range(60))
    streams = (
        Stream("js_errors", strata(route="/"), 5.0, 0.01),
        Stream("journey", strata(check="buy"), 0.5, 0.02, paired=True),
    )
    world = World(rps=400.0, routes=routes, streams=streams, seconds=240.0, past_seconds=300.0)
    engine = Engine()
    for tick in ticks(world, np.random.default_rng(2)):
        engine.update(tick)
    saved = engine.state()
    assert through_json(engine).verdict() == engine.verdict()
    assert len(json.dumps(saved)) < 3_000_000


def test_the_state_of_another_policy_is_refused_by_the_name_of_the_setting() -> None:
    saved = Engine(QUICK).state()
    with pytest.raises(StateError, match=r"saved with policy.alpha = 0.01, the policy has 0.02; resume"):
        Engine.resumed(replace(QUICK, alpha=0.02), saved)
    with pytest.raises(StateError, match=r"policy\.signals\.journey"):
        Engine.resumed(Policy.from_mapping({"signals": {"journey": None}}), Engine().state())


def test_another_format_is_refused() -> None:
    for other in ({**Engine().state(), "format": states.FORMAT + 1}, {}, [], None):
        with pytest.raises(StateError, match=r"the state has the format .* begin without the state"):
            Engine.resumed(Policy(), other)  # type: ignore[arg-type]


def test_damage_is_an_error_of_its_own() -> None:
    engine = Engine(QUICK)
    for tick in ticks(World(seconds=120.0, past_seconds=60.0), np.random.default_rng(1)):
        engine.update(tick)
    whole = json.loads(json.dumps(engine.state()))

    def damaged(change: str, value: object) -> object:
        state = copy.deepcopy(whole)
        state["judges"]["errors"]["has"]["total"]["has"][change] = value
        return state

    lacking = copy.deepcopy(whole)
    del lacking["judges"]["errors"]["has"]["total"]
    gone = copy.deepcopy(whole)
    del gone["judges"]["errors"]
    for state in (
        damaged("canary", {"array": {"type": "f", "shape": [1], "of": "!!"}}),
        damaged("canary", {"array": {"type": "f", "shape": [7], "of": ""}}),
        damaged("canary", {"object": "os.system", "has": {}}),
        damaged("canary", {"object": "Counts"}),
        damaged("canary", [1, 2]),
        damaged("canary", {"shared": "nothing"}),
        damaged("canary", {"kind": 1}),
        lacking,
        gone,
    ):
        with pytest.raises(StateError, match=r"begin without it|does not know"):
            Engine.resumed(QUICK, state)  # type: ignore[arg-type]


def test_a_change_of_what_is_kept_is_a_change_of_the_format() -> None:
    """Attributes of every class in a state; when this fails, raise FORMAT and write the new sum here."""
    engine = Engine(QUICK)
    use = PodUse("a", True, 60.0, 15.0, 1e8, 1.0, 10.0)
    for tick in ticks(World(seconds=120.0, past_seconds=60.0), np.random.default_rng(1)):
        engine.update(replace(tick, uses=(use,)))
    shapes: dict[str, list[str]] = {}

    def walk(plain: object) -> None:
        if isinstance(plain, dict):
            if "object" in plain:
                shapes[plain["object"]] = sorted(plain["has"])
            for each in plain.values():
                walk(each)
        elif isinstance(plain, list):
            for each in plain:
                walk(each)

    saved = engine.state()
    walk(saved)
    text = json.dumps([sorted(saved), sorted(saved["engine"]), shapes], sort_keys=True)
    assert (states.FORMAT, hashlib.sha256(text.encode()).hexdigest()[:12]) == (2, "77e9eda19db2")
