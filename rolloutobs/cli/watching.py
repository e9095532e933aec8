"""Puts source, ticker, engine and state file together for the commands that compare."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from rolloutobs.analysis.canaries import of_canaries, of_present_canary
from rolloutobs.analysis.gate import Gate, GateSettings, Look, RolloutChangedError
from rolloutobs.analysis.model import Decision, Reading, Tick
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.prometheus import PrometheusSource
from rolloutobs.analysis.report import Override, Report
from rolloutobs.analysis.saved import Saved
from rolloutobs.analysis.scrape import ScrapeSource
from rolloutobs.analysis.ticks import Ticker, TickSettings
from rolloutobs.analysis.verdict import Engine
from rolloutobs.analysis.weights import Weight, Weighted
from rolloutobs.cli.keeping import StateFile
from rolloutobs.cli.sources import history, open_source
from rolloutobs.errors import SourceError

__all__ = ["Watch", "gap", "past_or_why", "ticker_of", "watch"]

_PATIENCE_INTERVALS = 3.5
"""A target may miss three readings before the others go on without it: a hiccup loses nothing."""
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What to watch, from the command line."""

    policy: Policy
    settings: GateSettings
    look_back_seconds: float
    """How much of a Prometheus's past is taken in first."""
    state: StateFile | None = None
    """Where the gate goes on from, and what it writes after each look."""
    override: Override | None = None
    """One look, and then this decision."""
    weight: Weight | None = None
    """Who says which share of the traffic is configured for the canary."""
    since: float = 0.0
    """When the rollout began, in unix seconds, where that is known: no canary counts before it."""
    is_bake: bool = False
    """Whether the canary is promoted already: time 0 is now."""
    stable_past: Sequence[Tick] = ()
    """Of a bake: ticks from before it, in unix seconds."""


async def watch(
    arguments: Namespace, wanted: Watch, observer: Callable[[Look], None]
) -> tuple[Report, tuple[Tick, ...]]:
    """Watch until decided, interrupted, or over; return the report, and the last ticks (`Gate.kept`).

    Raises:
        SourceError: nothing answers.
        ConfigurationError: an address is wrong, or there are several apps.
        StateError: the state file cannot be used.
    """
    stop = asyncio.Event()
    with _stopped_by_signals(stop):
        before = _before(wanted)
        notes = gap(arguments, before)
        if wanted.override:
            stop.set()
        try:
            report, kept = await _watch(arguments, wanted, observer, stop, before)
        except RolloutChangedError as change:
            notes = (str(change),)
            if wanted.state:
                wanted.state.begin()
            report, kept = await _watch(arguments, wanted, observer, stop, None)
    if wanted.override:
        report = replace(report, override=wanted.override, interrupted=False)
    if wanted.state and wanted.state.failed:
        notes = (*notes, wanted.state.failed)
    return replace(report, notes=(*notes, *report.notes)), kept


def _before(wanted: Watch) -> tuple[Saved, Engine] | None:
    if wanted.state is None:
        return None
    return (wanted.state.load_bake if wanted.is_bake else wanted.state.load)(wanted.policy)


def gap(arguments: Namespace, before: tuple[Saved, Engine] | None) -> tuple[str, ...]:
    """Say what no gate has seen: processes tell what they have counted, not when."""
    if before is None or arguments.prometheus:
        return ()
    return (f"nothing was compared in the {time.time() - before[0].at:.0f} s in which no gate was watching",)


async def _watch(
    arguments: Namespace,
    wanted: Watch,
    observer: Callable[[Look], None],
    stop: asyncio.Event,
    before: tuple[Saved, Engine] | None,
) -> tuple[Report, tuple[Tick, ...]]:
    settings = wanted.settings
    ticker = ticker_of(wanted, before)
    engine = before[1] if before else _engine(wanted, ticker.zero)
    timeout = arguments.timeout or min(max(settings.interval_seconds, 2.0), 5.0)
    async with AsyncExitStack() as stack:
        source = open_source(arguments, ticker.metrics, timeout, ticker.needs)
        await stack.enter_async_context(source)
        past, unread = await past_or_why(source, arguments.prometheus, wanted, before)

        def observed(look: Look) -> None:
            if wanted.state:
                wanted.state.save(gate, engine)
                if wanted.state.failed:
                    look = replace(look, notes=(*look.notes, wanted.state.failed))
            observer(look)

        weighted = Weighted(source, wanted.weight) if wanted.weight else source
        gate = Gate(weighted, ticker, engine, settings, observer=observed)
        if before:
            gate.resume(before[0], engine.verdict() if before[0].decision else None)
        report = await gate.run(stop, past)
        if wanted.state and not wanted.override:
            wanted.state.save(gate, engine)
        return replace(report, notes=(*unread, *report.notes)), gate.kept


def _engine(wanted: Watch, zero: float | None) -> Engine:
    """Return a new engine, that of a bake with what stable did before."""
    engine = Engine(wanted.policy)
    for tick in wanted.stable_past:
        engine.prehistory(replace(tick, start=tick.start - (zero or 0.0), end=tick.end - (zero or 0.0)))
    return engine


def ticker_of(wanted: Watch, before: tuple[Saved, Engine] | None) -> Ticker:
    """Return the ticker for `wanted`, which goes on from `before`."""
    patience = max(_PATIENCE_INTERVALS * wanted.settings.interval_seconds, _PATIENCE_SECONDS)
    versions = (
        frozenset({before[0].canary_version}) - {"", before[0].stable_version} if before else frozenset()
    )
    settings = TickSettings(
        canary_versions=versions,
        warmup_seconds=wanted.policy.warmup_seconds,
        patience_seconds=patience,
        since=wanted.since,
        zero=before[0].zero if before else time.time() if wanted.is_bake else None,
    )
    return Ticker(wanted.policy.compared, settings)


async def past_or_why(
    source: PrometheusSource | ScrapeSource,
    url: str,
    wanted: Watch,
    before: tuple[Saved, Engine] | None,
) -> tuple[list[Reading], tuple[str, ...]]:
    """Return the past; where it cannot be read, and Prometheus may yet come up, a note on that."""
    if not isinstance(source, PrometheusSource):
        return [], ()
    try:
        return await _past(source, url, wanted, before), ()
    except SourceError as error:
        if not wanted.settings.until_decided:
            raise
        return [], (f"the past could not be read, so nothing is compared with it: {error}",)


async def _past(
    source: PrometheusSource, url: str, wanted: Watch, before: tuple[Saved, Engine] | None
) -> list[Reading]:
    """Return the past of the present rollout, or what a gate before this one has not seen.

    There is none of a bake that begins, whose past is the rollout, nor of one that is decided.

    Raises:
        SourceError: Prometheus does not answer, or there is nothing to compare in a window that is over.
    """
    decisions = {Decision.ROLLBACK} if wanted.is_bake else {Decision.ROLLBACK, Decision.PROMOTE}
    if wanted.is_bake if before is None else before[0].decision in decisions:
        return []
    now = time.time()
    # Prometheus knows milliseconds: rounded down, the first reading would be before the state's last one.
    began = math.ceil(before[0].at * 1000.0) / 1000.0 if before else now - wanted.look_back_seconds
    past = await history(source, url, (began, now), wanted.settings.interval_seconds)
    if not past and not wanted.settings.until_decided:
        raise SourceError(
            f"Prometheus at {url} has none of the wanted metrics in this window; are --app and --metrics "
            "right?"
        )
    if before:
        return past
    return _since(wanted.since, of_present_canary(past, past[-1])) if past else []


def _since(began: float, past: list[Reading]) -> list[Reading]:
    """Return `past` without canaries from before the rollout, whatever version they had."""
    return [reading if reading.at >= began else of_canaries(reading, ()) for reading in past]


@contextlib.contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first SIGINT or SIGTERM, so that the reports are written; the second one kills."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def handle() -> None:
        stop.set()
        release()

    def release() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        release()
