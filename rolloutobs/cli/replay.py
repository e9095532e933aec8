"""``rolloutobs replay``: what the engine would have decided about rollouts of the past."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.options import read_policy, require, seconds
from rolloutobs.cli.sources import add_access, add_prometheus, add_series, history, open_prometheus
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.analysis.policy import Policy
    from rolloutobs.analysis.replay import Replayed

__all__ = ["add_parser", "run", "window"]

_TIMEOUT_SECONDS: Final = 30.0

_DESCRIPTION: Final = """\
Run the engine over past rollouts that a Prometheus still has, and print what it would have decided, when, and
why. Nothing is waited for, and nothing is acted on."""

_EPILOG: Final = """\
examples:
  rolloutobs replay --app shop --prometheus http://prometheus:9090 2026-11-20T10:00Z/45m
  rolloutobs replay --app shop --prometheus http://prometheus:9090 --windows rollouts.txt --policy new.yaml

A window is START/END or START/LENGTH, in ISO 8601, UTC unless it says otherwise. It begins when the canary
got its first traffic or before; stable's half hour before it is its past. In a file there is one a line, and
what follows a # is a comment.

The exit code is 0 when all windows were replayed, whatever their decisions, and 2 when one could not be.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "replay",
        help="what would have been decided about past rollouts",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("window", nargs="*", type=window, metavar="WINDOW", help="START/END or START/LENGTH")
    parser.add_argument("--windows", type=Path, metavar="FILE", help="more windows, one a line")
    add_prometheus(parser, required=True)
    add_series(parser)
    add_access(parser)
    parser.add_argument(
        "--interval", type=seconds, default=15.0, metavar="TIME", help="between looks (default: 15s)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: %(default)s)")
    parser.set_defaults(run=run)


def window(text: str) -> tuple[float, float]:
    """Return start and end of a window in unix seconds."""
    start_text, slash, end_text = text.strip().partition("/")
    try:
        start = _instant(start_text)
        end = _instant(end_text) if "T" in end_text else start + seconds(end_text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a window; use 2026-11-20T10:00Z/45m ({error})"
        ) from None
    if not slash or end <= start:
        raise argparse.ArgumentTypeError(f"{text!r} is not a window: it has to end after its start")
    return start, end


def _instant(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def run(arguments: argparse.Namespace) -> int:
    """Replay each window and print the table."""
    require("replay", "numpy", "httpx2")
    windows = [*arguments.window, *_listed(arguments.windows)]
    if not windows:
        raise ConfigurationError("there is no window to replay; give START/END, or --windows FILE")
    policy = read_policy(arguments.policy, "replay", arguments.metrics)
    found = asyncio.run(_replay(arguments, policy, windows))
    if arguments.format == "json":
        sys.stdout.write(json.dumps([_plain(each) for each in found], indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(_table(found)) + "\n")
    return 0


def _listed(path: Path | None) -> list[tuple[float, float]]:
    if path is None:
        return []
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return [window(line) for line in lines if line]
    except (OSError, UnicodeDecodeError, argparse.ArgumentTypeError) as error:
        raise ConfigurationError(f"cannot read the windows in {str(path)!r}: {error}") from None


async def _replay(
    arguments: argparse.Namespace, policy: Policy, windows: Sequence[tuple[float, float]]
) -> list[Replayed]:
    from rolloutobs.analysis.replay import replay
    from rolloutobs.analysis.ticks import Ticker

    found, now = [], time.time()
    for start, _ in windows:
        if start >= now:
            raise ConfigurationError(f"the window that begins at {_time(start)} has not begun yet")
    ticker = Ticker(policy.compared, displays=())
    look_back = max(policy.past.minimum_seconds, 1800.0)
    patience = max(3.5 * arguments.interval, 5.0)
    for start, end in windows:
        # A source of its own: which version is the canary is found for each rollout.
        source = open_prometheus(
            arguments, ticker.metrics, arguments.timeout or _TIMEOUT_SECONDS, ticker.needs
        )
        async with source:
            span = (start - look_back, min(end, now))
            readings = await history(source, arguments.prometheus, span, arguments.interval)
        limited = replace(policy, deadline_seconds=max(end - start, 1.0))
        found.append(replay(readings, start, limited, patience))
    return found


def _table(found: Sequence[Replayed]) -> list[str]:
    from rolloutobs.analysis.wording import duration

    rows = [("window", "canary", "decision", "after", "requests")]
    for each in found:
        verdict = each.verdict
        rows.append(
            (
                _time(each.start),
                (verdict.canary_version if verdict else "") or "?",
                each.decision.value,
                duration(verdict.at) if verdict else "-",
                f"{verdict.requests.canary_exposures:,.0f}" if verdict else "-",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    reasons = [f"{_time(e.start)}  {e.verdict.reason if e.verdict else _NOTHING}" for e in found]
    return [*lines, "", *reasons]


_NOTHING: Final = "HOLD: the canary took no traffic in this window"


def _plain(each: Replayed) -> dict[str, Any]:
    verdict = each.verdict
    return {
        "start": _time(each.start),
        "canary_since": None if each.zero is None else _time(each.zero),
        "canary_version": (verdict.canary_version if verdict else "") or None,
        "decision": each.decision.value,
        "decided_after_seconds": None if verdict is None else round(verdict.at, 3),
        "canary_requests": 0 if verdict is None else verdict.requests.canary_exposures,
        "decided_by": (verdict.decided_by if verdict else "") or None,
        "reason": verdict.reason if verdict else _NOTHING,
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
