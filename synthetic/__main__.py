"""`rolloutobs-synthetic`: checks and loads against both tracks of a rollout."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import SystemRandom
from typing import Any

from rolloutobs.errors import RolloutobsError
from synthetic.checks import checks_of, chosen
from synthetic.endpoint import listen
from synthetic.metrics import CheckMetrics
from synthetic.options import make_parser, option_rows
from synthetic.publishing import Publisher
from synthetic.pushing import otlp_sender, pushgateway_sender
from synthetic.redaction import Secrets
from synthetic.result import ExitCode
from synthetic.runner import PairRunner, run_pairs
from synthetic.settings import parse_base_url
from synthetic.starting import write_first_journey
from synthetic.targeting import targets_of

__all__ = ["main", "option_rows"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    given = make_parser().parse_args(argv)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        return int(asyncio.run(_COMMANDS[given.command](given)))
    except (RolloutobsError, OSError) as problem:
        print(f"rolloutobs-synthetic: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        print("rolloutobs-synthetic: stopped at once, without a report", file=sys.stderr)
    except BaseException:
        # Python's own exit code would be 1, which blames the canary.
        log.exception("the check itself failed")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return int(ExitCode.INFRASTRUCTURE)


def _stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set: what runs then ends in order and says what it has.

    A second signal ends it at once. The loop's own handlers would never hear it where a journey blocks the
    loop.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        if heard:
            # It tells of every task that is cut off.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise KeyboardInterrupt
        heard.append(number)
        loop.call_soon_threadsafe(stop.set)

    for number in _SIGNALS:
        signal.signal(number, hear)
    return stop


async def _init(given: argparse.Namespace) -> ExitCode:
    write_first_journey(given.file)
    print(f"wrote {given.file}; walk it:\n")
    print(f"  rolloutobs-synthetic run {given.file} --app APP --stable URL --canary URL")
    return ExitCode.PASS


async def _run(given: argparse.Namespace) -> ExitCode:
    if given.list:
        for journey in chosen(given):
            kind = "browser" if journey.needs_browser else "api"
            print(f"{journey.name:<24} {kind:<8} {' '.join(journey.tags):<16} {journey.place}".rstrip())
        return ExitCode.PASS
    checks, schedule = checks_of(given, os.environ)
    stop = _stop_on_signals()
    names = [check.settings.check for check in checks]
    metrics = CheckMetrics(given.app, names, (checks[0].stable, checks[0].canary))
    publisher = Publisher(given, metrics, _senders(given, metrics, names), named=len(checks) > 1)
    with listen(given, metrics) as until_read:
        code = ExitCode.PASS
        try:
            runner = PairRunner(
                checks, Secrets(os.environ), SystemRandom(), time.time, metrics.count_internal_error
            )
            async with runner:
                await run_pairs(runner, schedule, publisher.publish, stop)
        except RolloutobsError as problem:
            # No browser, or none any more: what was seen so far is reported all the same.
            print(f"rolloutobs-synthetic: {problem}", file=sys.stderr)
            code = ExitCode.INFRASTRUCTURE
        counted = time.monotonic()
        told = publisher.close()
        await until_read(counted, stop)
    return told if code is ExitCode.PASS or told is ExitCode.PRODUCT else code


def _senders(
    given: argparse.Namespace, metrics: CheckMetrics, names: Sequence[str]
) -> list[Callable[[], None]]:
    senders = []
    if given.push:
        url = parse_base_url(given.push, "--push")
        group = {"app": given.app, "checks": ",".join(sorted(names))}
        senders.append(pushgateway_sender(url, metrics, group))
    if given.otlp:
        senders.append(otlp_sender(metrics))
    return senders


async def _load(given: argparse.Namespace) -> ExitCode:
    # Here and below: a check need not load what a load needs.
    from synthetic.load.command import load

    return await load(given, () if given.worker else targets_of(given), _stop_on_signals())


async def _be_users(given: argparse.Namespace) -> ExitCode:
    from synthetic.load.command import users

    return await users(given, _stop_on_signals())


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, ExitCode]]] = {
    "init": _init,
    "run": _run,
    "serve": _run,
    "load": _load,
    "users": _be_users,
}


if __name__ == "__main__":
    sys.exit(main())
