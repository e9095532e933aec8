"""The commands `load` and `users`: they run, tell how it goes, and leave what is asked for.

Belongs here: the course of both commands, and nothing that decides.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rolloutobs.errors import ConfigurationError
from synthetic.endpoint import listen
from synthetic.load.judging import LoadVerdict, judge_load
from synthetic.load.metrics import LoadMetrics
from synthetic.load.options import plan_of, thresholds_of, users_plan_of
from synthetic.load.results import LoadError, LoadResult
from synthetic.load.swarm import Role, run_load, run_worker
from synthetic.load.tables import (
    load_as_dict,
    load_html,
    load_junit,
    load_markdown,
    load_text,
    progress_line,
)
from synthetic.pushing import Pusher, otlp_sender, pushgateway_sender
from synthetic.report import write_json, write_text
from synthetic.result import ExitCode
from synthetic.settings import parse_base_url
from synthetic.target import Target

__all__ = ["load", "users"]

log = logging.getLogger(__name__)

_TELL_SECONDS = 5.0
"""Between two lines of progress."""


async def load(given: argparse.Namespace, targets: Sequence[Target], stop: asyncio.Event) -> ExitCode:
    """Run a paired load, or one of its workers.

    Raises:
        ConfigurationError: an option has no valid value.
        LoadError: Locust could not do its work, or there is nothing to judge.
    """
    plan, thresholds = plan_of(given, targets), thresholds_of(given)
    if plan.role is Role.WORKER:
        await run_worker(plan, stop)
        if stop.is_set():
            print("stopped before the load was over: its master counts this worker as lost", flush=True)
            return ExitCode.INCONCLUSIVE
        print("the load is over; its verdict is the master's", flush=True)
        return ExitCode.PASS
    if not given.app:
        raise ConfigurationError("--app is missing; use the service.name of the app under test")
    metrics = LoadMetrics(given.app, given.load)
    pusher = Pusher(_senders(given, metrics), lambda: metrics.count_internal_error("push"))
    progress = _Progress(metrics, pusher)
    try:
        with listen(given, metrics) as until_read:
            result = await run_load(plan, stop, progress.tell)
            _require_requests(result)
            verdict = judge_load(result, thresholds)
            metrics.update(result)
            metrics.end(verdict, time.time())
            counted = time.monotonic()
            written = _leave(given, result, verdict, metrics)
            print(load_text(result, verdict), flush=True)
            await until_read(counted, stop)
    finally:
        pusher.close()
    return verdict.code if written or verdict.code is ExitCode.PRODUCT else ExitCode.INFRASTRUCTURE


async def users(given: argparse.Namespace, stop: asyncio.Event) -> ExitCode:
    """Be plain users.

    Raises:
        ConfigurationError: an option has no valid value.
        LoadError: Locust could not do its work.
    """
    result = await run_load(users_plan_of(given), stop)
    _require_requests(result)
    if given.json is not None:
        write_json(given.json, load_as_dict("", "users", result, None))
    print(load_text(result, None), flush=True)
    return ExitCode.PASS


class _Progress:
    """Tells how a load goes: to people every few seconds, to Prometheus every second."""

    def __init__(self, metrics: LoadMetrics, pusher: Pusher) -> None:
        self._metrics = metrics
        self._pusher = pusher
        self._told = 0.0

    def tell(self, result: LoadResult) -> None:
        """Tell what there is so far."""
        self._metrics.update(result)
        if result.seconds - self._told >= _TELL_SECONDS:
            self._told = result.seconds
            self._pusher.push()
            print(progress_line(result), file=sys.stderr, flush=True)


def _require_requests(result: LoadResult) -> None:
    """Raise where there is nothing to judge.

    Raises:
        LoadError: no request was made, or some by users that are none of ours.
    """
    told = "".join(f"\n  {count} x {text}" for text, count in result.problems.items())
    if result.foreign:
        raise LoadError(
            f"{result.foreign} requests came from users not derived from synthetic.load.RolloutUser, so they "
            "are not marked as they should be; derive its users from RolloutUser"
        )
    if not any(each.requests for each in result.tracks):
        raise LoadError(f"no request was made at all; does the locustfile have users with tasks?{told}")


def _senders(given: argparse.Namespace, metrics: LoadMetrics) -> list[Callable[[], None]]:
    senders = []
    if given.push:
        url = parse_base_url(given.push, "--push")
        senders.append(pushgateway_sender(url, metrics, {"app": given.app, "load": given.load}))
    if given.otlp:
        senders.append(otlp_sender(metrics))
    return senders


def _leave(given: argparse.Namespace, result: LoadResult, verdict: LoadVerdict, metrics: LoadMetrics) -> bool:
    """Write the files that are asked for; return whether all could be."""
    told = (given.app, given.load, result, verdict)

    def append(path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(load_markdown(*told))

    files: tuple[tuple[Path | None, Callable[[Path], None]], ...] = (
        (given.json, lambda path: write_json(path, load_as_dict(*told))),
        (given.junit, lambda path: write_text(path, load_junit(*told))),
        (given.html, lambda path: write_text(path, load_html(*told))),
        (given.summary, append),
    )
    written = True
    for path, write in files:
        try:
            if path is not None:
                write(path)
        except OSError as problem:
            written = False
            metrics.count_internal_error("report")
            log.warning("%s could not be written: %s", path, problem)
    return written
