"""``rolloutobs gate``: watch a rollout until it is decided."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from typing import Any, Final

from rolloutobs.cli.options import (
    EXIT_CODES,
    add_sources,
    output_file,
    read_policy,
    require,
    seconds,
    write,
)

__all__ = ["add_parser", "run"]

_DESCRIPTION: Final = """\
Watch a canary beside stable and say, as soon as it is certain enough, whether to promote it or to roll it
back.

Looking often costs nothing: the evidence is valid at every look. The gate waits for the canary's first
request; what stable does until then is the past that it is compared with. Progress goes to stderr, the
verdict to stdout."""

_EPILOG: Final = f"""\
examples:
  Two pods of each track, straight:
    rolloutobs gate --app shop --scrape 10.0.0.1:8000 --scrape 10.0.0.2:8000 --scrape 10.0.0.9:8000

  From Prometheus, in CI, with both reports:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 --json verdict.json --html report.html

  And act on it:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 && kubectl argo rollouts promote shop

{EXIT_CODES}
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "gate",
        help="watch a rollout until it is decided",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_sources(parser)
    parser.add_argument(
        "--interval",
        type=seconds,
        default=15.0,
        metavar="TIME",
        help="time between looks (default: 15s); with Prometheus not below its scrape interval",
    )
    parser.add_argument(
        "--deadline",
        type=seconds,
        metavar="TIME",
        help="hold if undecided so long after the canary's first request (default: the policy's, 30m); "
        "the gate waits equally long for that first request",
    )
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the verdict as JSON")
    parser.add_argument("--html", type=output_file, metavar="FILE", help="write the report as one HTML page")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the verdict")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watch, write the reports, print the verdict, and return its exit code."""
    require("gate", "numpy", "httpx2", *(("jinja2",) if arguments.html else ()))
    from rolloutobs.analysis.gate import GateSettings
    from rolloutobs.analysis.report import exit_code, to_json, to_text
    from rolloutobs.cli.terminal import painter, progress
    from rolloutobs.cli.watching import Watch, watch

    policy = read_policy(arguments.policy, "gate")
    if arguments.deadline:
        policy = replace(policy, deadline_seconds=arguments.deadline)
    settings = GateSettings(arguments.app, arguments.interval, policy.deadline_seconds)
    shown = None if arguments.quiet else progress(sys.stderr, policy.deadline_seconds)
    look_back = max(policy.past.minimum_seconds, 1800.0)
    try:
        report = asyncio.run(
            watch(arguments, Watch(policy, settings, look_back), shown or (lambda look: None))
        )
    finally:
        if shown:
            shown.close()
    # First of all: a report that cannot be written must not take the verdict along.
    sys.stdout.write(to_text(report, painter(sys.stdout)))
    sys.stdout.flush()
    if arguments.json:
        write(arguments.json, to_json(report))
    if arguments.html:
        from rolloutobs.analysis.page import to_html

        write(arguments.html, to_html(report))
    return exit_code(report.verdict.decision)
