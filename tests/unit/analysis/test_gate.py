"""The gate's loop with a scripted engine and clock, and with the real engine over real sockets."""

import asyncio
from collections import deque
from dataclasses import replace

import pytest

from rolloutobs.analysis.canaries import of_canaries, of_present_canary, versions_of_canaries
from rolloutobs.analysis.gate import Clock, Gate, GateSettings
from rolloutobs.analysis.history import NOTHING
from rolloutobs.analysis.model import Decision, Reading, Sample, Verdict
from rolloutobs.analysis.policy import Kind, Policy, Selector, Signal
from rolloutobs.analysis.report import exit_code, to_mapping
from rolloutobs.analysis.scrape import ScrapeSource
from rolloutobs.analysis.sides import Shape
from rolloutobs.analysis.ticks import Ticker
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import ConfigurationError, SourceError

SIGNAL = Signal("errors", "5xx answers", Kind.RATIO, Selector("n"), Selector("n", {"status": "500"}))


class Time:
    """A clock that moves when somebody sleeps, and runs `script` then."""

    def __init__(self, script=lambda now: None):
        self.now = 1000.0
        self.script = script

    async def sleep(self, seconds):
        self.now += seconds
        self.script(self.now)
        await asyncio.sleep(0)

    @property
    def clock(self):
        return Clock(lambda: self.now, self.sleep)


class FakeEngine:
    """Decides what it is told to, tick by tick, and keeps what it was given."""

    def __init__(self, *decisions):
        self.decisions = deque(decisions)
        self.past, self.ticks = [], []

    def prehistory(self, tick):
        self.past.append(tick)

    def observe(self, tick):
        self.ticks.append(tick)
        decision = self.decisions.popleft() if self.decisions else Decision.HOLD
        return Verdict(decision, f"{decision.name} says the fake", tick.end, "", (), NOTHING)


class FakeSource:
    """One target with both tracks: 10 requests of stable and `canary(now)` of the canary at each reading."""

    def __init__(self, time, canary=lambda now: 5, **labels):
        self.time, self.canary, self.labels = time, canary, {"app": "shop", **labels}
        self.totals = {"stable": 0, "canary": 0}
        self.failing = False

    async def read(self):
        if self.failing:
            return Reading(self.time.now, {}, {"pod": "refused"})
        self.totals["stable"] += 10
        self.totals["canary"] += self.canary(self.time.now)
        samples = [
            Sample("n", {**self.labels, "track": t, "version": v}, self.totals[t]) for t, v in VERSIONS
        ]
        return Reading(self.time.now, {"pod": tuple(samples)})


VERSIONS = (("stable", "1.1.0"), ("canary", "1.2.0"))
SETTINGS = GateSettings(interval_seconds=10, deadline_seconds=60)


def gate(engine, time, source=None, settings=SETTINGS, **options):
    return Gate(source or FakeSource(time), Ticker([SIGNAL]), engine, settings, time.clock, **options)


@pytest.mark.parametrize("decision", [Decision.PROMOTE, Decision.ROLLBACK])
async def test_it_stops_as_soon_as_it_is_decided(decision):
    time, engine = Time(), FakeEngine(Decision.HOLD, decision)
    report = await gate(engine, time).run()
    assert report.verdict.decision is decision
    assert [(t.start, t.end) for t in engine.ticks] == [(0, 10), (10, 20)]
    assert (report.began, report.ended) == (1000, 1020)
    assert not report.interrupted
    assert report.app == "shop"


async def test_it_holds_at_the_deadline_which_counts_from_the_canarys_first_request():
    time = Time()
    engine = FakeEngine()
    source = FakeSource(time, canary=lambda now: 5 if now > 1025 else 0)
    report = await gate(engine, time, source).run()
    assert report.verdict.decision is Decision.HOLD
    assert [t.end for t in engine.past] == [-10, 0]
    assert engine.ticks[-1].end == 60
    assert report.ended == 1080


async def test_a_canary_without_traffic_is_a_hold_that_says_so():
    time, engine = Time(), FakeEngine()
    report = await gate(engine, time, FakeSource(time, canary=lambda now: 0)).run()
    assert (
        report.verdict.reason == "HOLD after 60 s: the canary took no traffic (tracks seen: canary, stable)"
    )
    assert report.verdict.requests.stable_exposures == 60
    assert engine.ticks == []
    assert [m.end for m in report.history.moments] == [-50, -40, -30, -20, -10, 0]


async def test_series_without_tracks_are_explained():
    time = Time()

    class Untracked(FakeSource):
        async def read(self):
            return Reading(self.time.now, {"pod": (Sample("n", {"app": "shop"}, 1),)})

    report = await gate(FakeEngine(), time, Untracked(time)).run()
    assert "no series has a label track" in report.verdict.reason


async def test_targets_that_never_answer_are_an_error():
    time = Time()
    source = FakeSource(time)
    source.failing = True
    with pytest.raises(SourceError, match="no target answers: pod: refused"):
        await gate(FakeEngine(), time, source).run()
    assert time.now == 1060


async def test_a_source_that_fails_later_holds_and_comes_back():
    time, engine = Time(), FakeEngine()
    source = FakeSource(time)

    def script(now):
        source.failing = 1020 <= now < 1050

    time.script = script
    looks = []
    report = await gate(engine, time, source, observer=looks.append).run()
    assert [bool(look.failed) for look in looks] == [False, False, True, True, True, False, False]
    assert [sorted(t.stale) for t in engine.ticks] == [[], *[["canary", "stable"]] * 3, [], []]
    assert looks[2].notes == ("pod: refused",)
    assert report.notes == ()


async def test_many_targets_that_are_silent_for_one_reason_are_one_note():
    time = Time()
    looks = []

    class Many(FakeSource):
        async def read(self):
            found = await super().read()
            down = {f"pod-{i:03}": "Prometheus is down" for i in range(200)}
            return replace(found, failed={"b": "timed out", "a": "refused", **down})

    await gate(FakeEngine(), time, Many(time), observer=looks.append).run()
    assert looks[-1].notes == (
        "a: refused",
        "b: timed out",
        "200 targets, of which one is pod-000: Prometheus is down",
    )


async def test_a_signal_from_outside_ends_it_with_a_report():
    time, stop = Time(), asyncio.Event()
    time.script = lambda now: stop.set() if now >= 1030 else None
    report = await gate(FakeEngine(), time, settings=replace(SETTINGS, deadline_seconds=1e9)).run(stop)
    assert report.interrupted
    assert report.verdict.decision is Decision.HOLD
    assert report.ended == 1030


async def test_a_stop_during_the_wait_does_not_wait_for_its_end():
    stop = asyncio.Event()
    forever = asyncio.Event()
    time = Time()
    watched = Gate(
        FakeSource(time),
        Ticker([SIGNAL]),
        FakeEngine(),
        SETTINGS,
        Clock(lambda: 1000.0, lambda s: forever.wait()),
    )
    task = asyncio.create_task(watched.run(stop))
    await asyncio.sleep(0)
    stop.set()
    assert (await task).interrupted


async def test_compare_looks_for_the_whole_time():
    time, engine = Time(), FakeEngine(*[Decision.PROMOTE] * 3)
    report = await gate(engine, time, settings=replace(SETTINGS, until_decided=False)).run()
    assert len(engine.ticks) == 6
    assert report.verdict.decision is Decision.HOLD


async def test_several_apps_are_refused_unless_one_is_chosen():
    class Two(FakeSource):
        async def read(self):
            found = await super().read()
            other = Sample("n", {"app": "inventory", "track": "stable"}, 1)
            return replace(found, targets={"pod": (*found.targets["pod"], other)})

    time = Time()
    with pytest.raises(ConfigurationError, match=r"several apps \(inventory, shop\); choose one with --app"):
        await gate(FakeEngine(), time, Two(time)).run()
    report = await gate(FakeEngine(Decision.PROMOTE), time, Two(time), replace(SETTINGS, app="shop")).run()
    assert report.app == "shop"


def at(now, *found):
    samples = (
        Sample("n", {"app": "shop", "track": track, "version": version}, value)
        for track, version, value in found
    )
    return Reading(now, {"pod": tuple(samples)})


async def test_the_past_counts_and_an_earlier_canary_does_not():
    past = [
        at(900, ("stable", "1.1.0", 0), ("canary", "1.2.0-rc1", 0)),
        at(910, ("stable", "1.1.0", 10), ("canary", "1.2.0-rc1", 99)),
        at(920, ("stable", "1.1.0", 20), ("canary", "1.2.0", 0)),
        at(930, ("stable", "1.1.0", 30), ("canary", "1.2.0", 4)),
    ]
    time, engine = Time(), FakeEngine(Decision.HOLD, Decision.PROMOTE)
    source = FakeSource(time)
    source.totals = {"stable": 90, "canary": 6}
    report = await gate(engine, time, source).run(past=of_present_canary(past, past[-1]))
    assert [t.end for t in engine.past] == [-10, 0]
    counts = [next(iter(t.counts["errors"].values())) for t in engine.ticks]
    assert [(c.canary_exposures, c.stable_exposures) for c in counts] == [(4, 10), (7, 70)]
    assert report.verdict.decision is Decision.PROMOTE


async def test_a_window_of_the_past_is_enough_to_compare():
    past = [at(900 + 10 * i, ("stable", "1.1.0", 9 * i), ("canary", "1.2.0", i)) for i in range(4)]
    time, engine = Time(), FakeEngine(Decision.PROMOTE, Decision.HOLD, Decision.HOLD)
    report = await gate(engine, time, settings=replace(SETTINGS, until_decided=False)).run(past=past)
    assert len(engine.ticks) == 3
    assert (report.began, report.ended) == (900, 930)
    assert time.now == 1000


# --- the real engine over real sockets ----------------------------------------------------------------


POLICY = Policy.from_mapping(
    {
        "tick_seconds": 5,
        "phi_seconds": 5,
        "clip_refill": 0.4,
        "warmup_seconds": 0,
        "minimum_seconds": 60,
        "past": {
            "minimum_seconds": 60,
            "block_seconds": 10,
            "windows_seconds": [30, 60],
            "after_seconds": 30,
        },
        "signals": {
            "errors": {"margin_ratio": 2.0, "margin_difference": 0.01},
            "latency": {"margin_difference": 0.05},
        },
    }
)


class Pod:
    """A process that counts requests and shows them in the exposition format."""

    def __init__(self, track, version, slow_share, errors_in):
        self.labels = f'app="shop",track="{track}",version="{version}",method="GET",route="/"'
        self.slow_share, self.errors_in = slow_share, errors_in
        self.requests = self.errors = self.slow = 0.0

    def serve(self, requests):
        """Answer `requests`, one in `errors_in` with 500, and spread errors and slowness evenly."""
        self.requests += requests
        self.errors = self.requests // self.errors_in
        self.slow = self.requests * self.slow_share // 1

    @property
    def text(self):
        good = self.requests - self.errors
        le = f"http_request_duration_seconds_bucket{{{self.labels},le="
        return (
            f'http_requests_total{{{self.labels},status="200"}} {good:g}\n'
            f'http_requests_total{{{self.labels},status="500"}} {self.errors:g}\n'
            f'{le}"0.1"}} {self.requests - self.slow:g}\n{le}"1.0"}} {self.requests:g}\n'
            f'{le}"+Inf"}} {self.requests:g}\n'
            "noise_total 1\n"
        )


@pytest.mark.parametrize(
    ("canary", "per_second", "decision", "words"),
    [
        (Pod("canary", "1.2.0", 0.05, 12), 30, Decision.ROLLBACK, "canary 1.2.0 answers 5xx"),
        (Pod("canary", "1.2.0", 0.40, 100), 30, Decision.ROLLBACK, "takes longer than 100 ms"),
        (Pod("canary", "1.2.0", 0.05, 100), 30, Decision.PROMOTE, "is not worse than stable 1.1.0"),
        (Pod("canary", "1.2.0", 0.05, 100), 0.2, Decision.HOLD, "more requests"),
    ],
    ids=["errors", "slow", "good", "trickle"],
)
async def test_two_real_exporters_end_in_the_right_verdict(exporter, canary, per_second, decision, words):
    pods = [Pod("stable", "1.1.0", 0.05, 100) for _ in range(2)] + [canary]
    servers = [await exporter(pod.text) for pod in pods]

    def script(now):
        for pod in pods[:2]:
            pod.serve(25)
        if now > 1100:
            canary.serve(per_second * 5)
        for pod, server in zip(pods, servers, strict=True):
            server.text = pod.text

    time = Time(script)
    ticker = Ticker(POLICY.signals)
    settings = GateSettings("shop", interval_seconds=5, deadline_seconds=600)
    async with ScrapeSource(
        [s.address for s in servers], ticker.metrics, shape=Shape(app="shop"), clock=lambda: time.now
    ) as source:
        report = await Gate(source, ticker, Engine(POLICY), settings, time.clock).run()
    verdict = report.verdict
    assert verdict.decision is decision, verdict.reason
    assert words in verdict.reason
    assert verdict.reason.startswith(decision.name)
    assert (verdict.canary_version, verdict.stable_version) == ("1.2.0", "1.1.0")
    assert exit_code(verdict.decision) == {"promote": 0, "rollback": 1, "hold": 3}[decision]
    assert to_mapping(report)["requests"]["canary"]["exposures"] > 0


async def test_a_bake_ends_with_a_rollback_only():
    time = Time()
    engine = FakeEngine(Decision.PROMOTE, Decision.HOLD, Decision.ROLLBACK)
    report = await gate(engine, time, settings=replace(SETTINGS, only_rollback=True)).run()
    assert report.verdict.decision is Decision.ROLLBACK
    assert time.now == 1030


async def test_a_bake_waits_for_a_source_that_is_down_until_its_end():
    time = Time()
    source = FakeSource(time)
    source.failing = True
    settings = replace(SETTINGS, only_rollback=True, give_up_seconds=20)
    report = await gate(FakeEngine(), time, source, settings=settings).run()
    assert report.verdict.decision is Decision.HOLD
    assert time.now == 1060


async def test_the_last_ticks_are_kept_for_a_bake_in_unix_time():
    time = Time()
    made = gate(FakeEngine(), time, settings=replace(SETTINGS, keep_seconds=20))
    await made.run()
    assert [(tick.start, tick.end) for tick in made.kept] == [(1030, 1040), (1040, 1050), (1050, 1060)]
    without = gate(FakeEngine(), Time())
    await without.run()
    assert without.kept == ()


def both(*versions):
    samples = [Sample("n", {"track": track, "version": version}, 1) for track, version in versions]
    return Reading(0.0, {"pod": tuple(samples)})


def test_what_the_last_rollout_promoted_is_no_canary_beside_the_next():
    assert versions_of_canaries(both(("canary", "2"), ("stable", "2"), ("canary", "3"))) == {"3"}
    assert versions_of_canaries(both(("canary", "2"), ("stable", "2"))) == {"2"}
    assert versions_of_canaries(both(("stable", "2"))) == set()
    # When a process began has no version in metrics of others.
    assert versions_of_canaries(both(("canary", "1"), ("canary", ""), ("stable", "1"))) == {"1"}
    assert versions_of_canaries(both(("canary", ""), ("stable", ""))) == {""}


def test_what_says_no_version_is_of_the_canary_that_is_there():
    past = both(("canary", "1"), ("canary", "2"), ("canary", ""), ("stable", "1"))
    assert of_canaries(past, {"2"}) == both(("canary", "2"), ("canary", ""), ("stable", "1"))
    assert of_canaries(past, ()) == both(("stable", "1"))


async def test_two_apps_in_the_past_are_not_compared_as_one():
    time = Time()
    first = await FakeSource(time).read()
    both = {**first.targets, "other": (Sample("n", {"app": "billing", "track": "stable"}, 1),)}
    made = gate(FakeEngine(), time, settings=replace(SETTINGS, until_decided=False))
    with pytest.raises(ConfigurationError, match="several apps"):
        await made.run(past=[replace(first, targets=both)])
