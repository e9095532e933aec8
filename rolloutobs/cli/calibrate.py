"""``rolloutobs calibrate``: stable's pods against each other, before the gate is trusted with production."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.options import read_policy, require, seconds
from rolloutobs.cli.sources import add_access, add_prometheus, add_series, history, open_prometheus
from rolloutobs.errors import SourceError

if TYPE_CHECKING:
    from rolloutobs.analysis.calibrate import Run, Spread
    from rolloutobs.analysis.model import Reading
    from rolloutobs.analysis.policy import Policy

__all__ = ["add_parser", "run"]

_TIMEOUT_SECONDS: Final = 30.0
_LOOKS_AHEAD: Final = 60
"""Moments at which it is looked which pods there were, and since when."""

_DESCRIPTION: Final = """\
Take each stable pod in turn for a canary, over hours that a Prometheus still has, and print how often it
would have been rolled back, how much the pods differ, and which tolerance covers that.

All pods run the same version, so every rollback is a false one."""

_EPILOG: Final = """\
examples:
  rolloutobs calibrate --app shop --prometheus http://prometheus:9090 --last 6h
  rolloutobs calibrate --app shop --prometheus http://prometheus:9090 --last 24h --pods 5

The exit code is 0 when the tolerances suffice, 1 when one should be raised, 2 when nothing could be read,
and 3 when there was too little traffic to tell.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "calibrate",
        help="false alarms of stable against itself, and the tolerance to set",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_prometheus(parser, required=True)
    add_series(parser)
    add_access(parser)
    parser.add_argument(
        "--last", type=seconds, default=6 * 3600.0, metavar="TIME", help="how much of the past (default: 6h)"
    )
    parser.add_argument("--pods", type=int, default=10, metavar="N", help="at most so many (default: 10)")
    parser.add_argument(
        "--interval", type=seconds, default=15.0, metavar="TIME", help="between looks (default: 15s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, run, print the table."""
    require("calibrate", "numpy", "httpx2")
    from rolloutobs.analysis.calibrate import spreads

    policy = read_policy(arguments.policy, "calibrate", arguments.metrics)
    found = asyncio.run(_found(arguments, policy, time.time()))
    spread = spreads(found, policy)
    sys.stdout.write("\n".join(_report(found, spread, policy)) + "\n")
    return _code(found, spread)


async def _found(arguments: argparse.Namespace, policy: Policy, now: float) -> list[Run]:
    """Return the runs of all windows; no more than one window is read at a time."""
    from rolloutobs.analysis.calibrate import runs, span, windows
    from rolloutobs.analysis.ticks import Ticker

    timeout = arguments.timeout or _TIMEOUT_SECONDS
    async with open_prometheus(arguments, Ticker(policy.compared, displays=()).metrics, timeout) as source:
        step = max(arguments.interval, arguments.last / _LOOKS_AHEAD)
        coarse = await history(source, arguments.prometheus, (now - arguments.last, now), step)
        pods = _taken(coarse, arguments)
        starts = windows(coarse[0].at, coarse[-1].at, policy)
        found: list[Run] = []
        for number, start in enumerate(starts):
            _progress(f"window {number + 1} of {len(starts)}, {len(pods)} pods")
            readings = await history(source, arguments.prometheus, span(start, policy), arguments.interval)
            found += runs(readings, pods, start, policy)
        _progress("")
        return found


def _taken(readings: Sequence[Reading], arguments: argparse.Namespace) -> Sequence[str]:
    """Return the pods that take the canary's place, spread over all that were seen.

    Raises:
        SourceError: there are fewer than two.
    """
    from rolloutobs.analysis.calibrate import stable_pods
    from rolloutobs.analysis.wording import duration

    pods = stable_pods(readings)
    if len(pods) < 2:
        seen = ("no stable pod", "1 stable pod")[len(pods)]
        raise SourceError(
            f"there is {seen} in the last {duration(arguments.last)}; calibrating takes two or more "
            "(is --app right?)"
        )
    return pods[:: -(-len(pods) // arguments.pods)] if arguments.pods > 0 else pods


def _progress(text: str) -> None:
    """Say on a terminal how far it is; the empty text wipes it out."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _alarms(found: Sequence[Run]) -> list[Run]:
    return [run for run in found if run.result.decision.value == "rollback"]


def _code(found: Sequence[Run], spread: Sequence[Spread]) -> int:
    if all(each.pods is None for each in spread):
        return 3
    return 1 if _alarms(found) or any(each.suggested > each.tolerance for each in spread) else 0


def _report(found: Sequence[Run], spread: Sequence[Spread], policy: Policy) -> list[str]:
    alarms = _alarms(found)
    pods = len({run.pod for run in found})
    lines = [
        f"{len(found)} runs, {pods} stable pods, each against the others for {policy.deadline_seconds:g} s: "
        f"{len(alarms)} rolled back ({100 * len(alarms) / max(len(found), 1):.1f} %, wanted at most "
        f"{100 * policy.alpha:g} %)",
        "",
        f"{'signal':<14}{'runs':>6}{'95 % of ratios':>16}{'of it, pods':>13}{'tolerance':>11}{'set':>7}",
    ]
    for each in spread:
        observed, own = ("-" if v is None else f"{v:.2f}x" for v in (each.observed, each.pods))
        wanted = "-" if each.pods is None else f"{each.suggested:.2f}"
        lines.append(
            f"{each.signal:<14}{each.runs:>6}{observed:>16}{own:>13}{each.tolerance:>11.2f}{wanted:>7}"
        )
    raised = [each for each in spread if each.suggested > each.tolerance]
    if raised:
        lines += ["", "in the policy:", "signals:"]
        lines += [f"  {each.signal}: {{tolerance_ratio: {each.suggested:.2f}}}" for each in raised]
    for each in [e for e in spread if e.pods is None]:
        lines += ["", f"{each.signal}: too few events in too many runs to say how much pods differ"]
    lines += [f"{run.pod}: {run.result.verdict.reason}" for run in alarms if run.result.verdict]
    return lines
