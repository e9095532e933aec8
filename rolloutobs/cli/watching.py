"""Puts source, ticker and engine together for the commands that compare."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from rolloutobs.analysis.gate import Gate, GateSettings, Look, of_present_canary
from rolloutobs.analysis.model import Reading
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.prometheus import PrometheusSource
from rolloutobs.analysis.report import Report
from rolloutobs.analysis.scrape import ScrapeSource
from rolloutobs.analysis.ticks import Ticker, TickSettings
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import SourceError

__all__ = ["Watch", "watch"]

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


async def watch(arguments: Namespace, wanted: Watch, observer: Callable[[Look], None]) -> Report:
    """Watch until decided, interrupted, or over.

    Raises:
        SourceError: nothing answers.
        ConfigurationError: an address is wrong, or there are several apps.
    """
    settings = wanted.settings
    patience = max(_PATIENCE_INTERVALS * settings.interval_seconds, _PATIENCE_SECONDS)
    ticker = Ticker(
        wanted.policy.signals,
        TickSettings(warmup_seconds=wanted.policy.warmup_seconds, patience_seconds=patience),
    )
    timeout = arguments.timeout or min(max(settings.interval_seconds, 2.0), 5.0)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        past: list[Reading] = []
        source: ScrapeSource | PrometheusSource
        if arguments.prometheus:
            prometheus = PrometheusSource(
                arguments.prometheus, ticker.metrics, app=settings.app, timeout_seconds=timeout
            )
            source = await stack.enter_async_context(prometheus)
            past = await _past(prometheus, wanted)
        else:
            scraped = ScrapeSource(
                arguments.scrape, ticker.metrics, app=settings.app, timeout_seconds=timeout
            )
            source = await stack.enter_async_context(scraped)
        gate = Gate(source, ticker, Engine(wanted.policy), settings, observer=observer)
        with _stopped_by_signals(stop):
            return await gate.run(stop, past)


async def _past(source: PrometheusSource, wanted: Watch) -> list[Reading]:
    """Return the past of the present rollout; an unreachable Prometheus may yet come up, if there is time."""
    now = time.time()
    step = wanted.settings.interval_seconds
    try:
        past = await source.history(now - wanted.look_back_seconds, now, step)
    except SourceError:
        if not wanted.settings.until_decided:
            raise
        return []
    if not past and not wanted.settings.until_decided:
        raise SourceError("Prometheus has none of the wanted metrics in this window; is --app right?")
    return of_present_canary(past, past[-1]) if past else []


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
