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
from contextlib import ExitStack
from random import SystemRandom
from typing import Any

from rolloutobs.errors import RolloutobsError
from synthetic.checks import checks_of, chosen
from synthetic.metrics import CheckMetrics, serve
from synthetic.options import make_parser, option_rows
from synthetic.publishing import Publisher
from synthetic.pushing import otlp_sender, pushgateway_sender
from synthetic.redaction import Secrets
from synthetic.result import ExitCode
from synthetic.runner import PairRunner, run_pairs
from synthetic.settings import parse_base_url, parse_listen
from synthetic.starting import write_first_journey
from synthetic.targeting import targets_of

__all__ = ["main", "option_rows"]

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    given = make_parser().parse_args(argv)
    try:
        return int(asyncio.run(_COMMANDS[given.command](given)))
    except (RolloutobsError, OSError) as problem:
        print(f"rolloutobs-synthetic: {problem}", file=sys.stderr)
        return int(ExitCode.INFRASTRUCTURE)
    except Exception:
        # Python's own exit code would be 1, which blames the canary.
        log.exception("the check itself failed")
        return int(ExitCode.INFRASTRUCTURE)


def _stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set: what runs then ends in order and says what it has."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
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
    publisher = Publisher(given, metrics, _senders(given, metrics, names))
    with ExitStack() as stack:
        if given.listen is not None:
            url = stack.enter_context(serve(metrics, *parse_listen(given.listen, "--listen")))
            print(f"metrics at {url()}", flush=True)
        try:
            runner = PairRunner(
                checks, Secrets(os.environ), SystemRandom(), time.time, metrics.count_internal_error
            )
            async with runner:
                await run_pairs(runner, schedule, publisher.publish, stop)
        except RolloutobsError as problem:
            # No browser, or none any more: what was seen so far is reported all the same.
            print(f"rolloutobs-synthetic: {problem}", file=sys.stderr)
            code = publisher.close()
            return code if code is ExitCode.PRODUCT else ExitCode.INFRASTRUCTURE
    return publisher.close()


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
