"""``rolloutobs simulate``: what the gate can see in your traffic, before you trust it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.options import read_policy, require, seconds
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.analysis.policy import Policy
    from rolloutobs.analysis.simulate import World

__all__ = ["add_parser", "run"]

_DESCRIPTION: Final = """\
Simulate rollouts with your traffic, error rate, latency and canary share, and print how often the policy
rolls back a good canary, finds a bad one, and how long that takes."""

_EPILOG: Final = """\
examples:
  rolloutobs simulate --rps 10 --share 0.05
  rolloutobs simulate --rps 200 --share 0.2 --errors 0.001 --latency 40ms --policy mine.yaml --runs 50

Only errors and latency are simulated, on one route and independent requests; stable has --pods pods. With the
same seed the table is the same.
"""
_LIKELY: Final = 0.8
"""The share of runs from which on the sentence says that something is seen."""
_FACTORS: Final = (2.0, 4.0, 10.0)
_SLOWER: Final = (1.5, 2.0)


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "simulate",
        help="what can be seen in your traffic, and how soon",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rps", type=_positive, default=100.0, help="requests per second (default: 100)")
    parser.add_argument("--share", type=_ratio, default=0.05, help="the canary's, 0 to 1 (default: 0.05)")
    parser.add_argument("--errors", type=_ratio, default=0.005, help="stable's rate, 0 to 1 (default: 0.005)")
    parser.add_argument(
        "--latency", type=seconds, default=0.08, metavar="TIME", help="stable's median (default: 80ms)"
    )
    parser.add_argument("--pods", type=int, default=4, help="stable pods (default: 4)")
    parser.add_argument("--duration", type=seconds, metavar="TIME", help="(default: the policy's deadline)")
    parser.add_argument("--runs", type=int, default=20, help="rollouts a row (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="what decides, as YAML or TOML")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def _positive(text: str) -> float:
    value = _number(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def _ratio(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a ratio; use 0.05 for 5 %")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def run(arguments: argparse.Namespace) -> int:
    """Simulate each row and print the table."""
    require("simulate", "numpy")
    from rolloutobs.analysis.simulate import study

    if arguments.runs < 1 or arguments.pods < 1 or arguments.share == 0.0:
        raise ConfigurationError("--runs and --pods begin at 1, and --share is above 0")
    policy = _only_simulated(read_policy(arguments.policy, "simulate"))
    duration = arguments.duration or policy.deadline_seconds
    policy = replace(policy, deadline_seconds=duration)
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for name, world in _worlds(arguments, duration).items():
        if not arguments.quiet:
            print(f"  {name} ...", file=sys.stderr, flush=True)
        rows.append((name, study(policy, world, arguments.runs, arguments.seed)))
    sys.stdout.write("\n".join(_report(arguments, duration, rows)) + "\n")
    return 0


def _only_simulated(policy: Policy) -> Policy:
    """Return `policy` with the two signals that the simulated world has."""
    kept = tuple(each for each in policy.signals if each.name in ("errors", "latency"))
    if {each.name for each in kept} != {"errors", "latency"}:
        raise ConfigurationError("the policy lacks errors or latency, and nothing else is simulated")
    return replace(policy, signals=kept, traffic="errors")


def _worlds(arguments: argparse.Namespace, duration: float) -> Mapping[str, World]:
    """Return what is simulated, by its name in the table."""
    from rolloutobs.analysis.simulate import USUAL, Route, World, slower

    # The usual mixture has its bulk at 80 ms.
    usual = slower(USUAL, arguments.latency / USUAL[0][1])
    good = Route(errors=arguments.errors, latency=usual)
    world = World(
        rps=arguments.rps,
        share=arguments.share,
        routes=(good,),
        seconds=duration,
        pods=arguments.pods,
    )
    found = {"same version": world, "same version, errors in clusters": replace(world, cluster=10.0)}
    for factor in _FACTORS:
        rate = arguments.errors * factor
        if 0.0 < rate < 1.0:
            found[f"errors x{factor:g} ({100 * rate:.2g} %)"] = replace(
                world, routes=(replace(good, canary_errors=rate),)
            )
    found["30 % errors"] = replace(world, routes=(replace(good, canary_errors=0.3),))
    for factor in _SLOWER:
        found[f"latency x{factor:g}"] = replace(
            world, routes=(replace(good, canary_latency=slower(usual, factor)),)
        )
    return found


def _report(
    arguments: argparse.Namespace, duration: float, rows: list[tuple[str, Mapping[str, Any]]]
) -> list[str]:
    lines = [
        f"{arguments.rps:g} requests per second, {100 * arguments.share:g} % of them the canary's, "
        f"{duration / 60:g} min, {arguments.runs} runs a row, seed {arguments.seed}",
        "",
        f"{'canary':<34}{'rolled back':>16}{'promoted':>16}{'held':>7}",
    ]
    for name, found in rows:
        back, forth = (_cell(found[decision]) for decision in ("rollback", "promote"))
        lines.append(f"{name:<34}{back:>16}{forth:>16}{found['hold'][0]:>5.0f} %")
    return [*lines, "", _sentence(arguments, duration, dict(rows))]


def _cell(found: tuple[float, float]) -> str:
    share, median = found
    return f"{share:.0f} %" + ("" if math.isnan(median) else f" @{median:.0f} s")


def _sentence(arguments: argparse.Namespace, duration: float, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what can be seen, in one sentence."""
    errors = [(name, found) for name, found in rows.items() if name.startswith("errors x")]
    seen = [name.split(" (")[0] for name, found in errors if found["rollback"][0] >= 100 * _LIKELY]
    unseen = [name.split(" (")[0] for name, found in errors if found["rollback"][0] < 100 * _LIKELY]
    text = (
        f"With {arguments.rps:g} requests per second and a share of {100 * arguments.share:g} % you can see "
        f"{seen[0] if seen else 'none of these error rates'} within {duration / 60:g} min"
    )
    return text + (f", not {unseen[-1]}." if seen and unseen else ".")
