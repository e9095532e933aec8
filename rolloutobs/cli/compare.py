"""``rolloutobs compare``: one look at both tracks over a window."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from typing import Any, Final

from rolloutobs.cli.options import EXIT_CODES, output_file, read_policy, require, seconds, write
from rolloutobs.cli.rails import Rails, add_rails, add_workload
from rolloutobs.cli.sources import add_sources

__all__ = ["add_parser", "run"]

_DESCRIPTION: Final = """\
Compare canary and stable over a window: both tracks side by side, the ratio with its bounds, the evidence.

With Prometheus the window is the one that ends now, and the answer comes at once. Without, both tracks are
scraped for as long as the window is."""

_EPILOG: Final = f"""\
examples:
  rolloutobs compare --app shop --prometheus http://prometheus:9090 --window 30m
  rolloutobs compare --app shop --scrape 10.0.0.1:8000 --scrape 10.0.0.9:8000 --window 2m
  rolloutobs compare --app shop --prometheus http://prometheus:9090 --format html --output report.html
  rolloutobs compare --app shop --prometheus http://prometheus:9090 --format markdown | gh pr comment 12 -F -

Series of others, told apart by their labels:
  rolloutobs compare --prometheus http://prometheus:9090 --metrics istio \\
      --canary '{{destination_workload="shop-canary"}}' --stable '{{destination_workload="shop"}}'

{EXIT_CODES}
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "compare",
        help="compare canary and stable over a window",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_sources(parser)
    parser.add_argument(
        "--window",
        type=seconds,
        metavar="TIME",
        help="how long a time is compared (default: 1m scraped, 30m from Prometheus)",
    )
    parser.add_argument(
        "--interval",
        type=seconds,
        default=15.0,
        metavar="TIME",
        help="resolution in the window (default: 15s)",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "html", "markdown"),
        default="text",
        help="(default: %(default)s)",
    )
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write there instead of to stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_rails(parser)
    add_workload(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, print the report, and return the verdict's exit code."""
    require("compare", "numpy", "httpx2", *(("jinja2",) if arguments.format == "html" else ()))
    from rolloutobs.analysis.gate import GateSettings
    from rolloutobs.analysis.report import Report, exit_code, to_json, to_text
    from rolloutobs.cli.terminal import painter, progress
    from rolloutobs.cli.watching import Watch, watch

    window = arguments.window or (1800.0 if arguments.prometheus else 60.0)
    policy = replace(read_policy(arguments.policy, "compare", arguments.metrics), deadline_seconds=window)
    interval = min(arguments.interval, window / 4)
    settings = GateSettings(arguments.app, interval, window, until_decided=False)
    rails = Rails(arguments, "compare")
    shown = None if arguments.quiet else progress(sys.stderr, window, "a window of")
    try:
        report, _ = asyncio.run(
            watch(arguments, Watch(policy, settings, window), shown or (lambda look: None))
        )
        report = rails.applied(report)
    finally:
        if shown:
            shown.close()

    def render(report: Report) -> str:
        if arguments.format == "json":
            return to_json(report)
        if arguments.format == "html":
            from rolloutobs.analysis.page import to_html

            return to_html(report)
        if arguments.format == "markdown":
            from rolloutobs.analysis.markdown import to_markdown

            return to_markdown(report)
        paint = painter(sys.stdout) if not arguments.output else (lambda text, style: text)
        return to_text(report, paint, worst=True)

    if arguments.output:
        write(arguments.output, render(report))
    else:
        sys.stdout.write(render(report))
    return exit_code(report.decision)
