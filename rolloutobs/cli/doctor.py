"""``rolloutobs doctor``: is the telemetry of an app as it should be, and what does it cost?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any, Final

from rolloutobs.checkup import exposition
from rolloutobs.checkup.answers import counted
from rolloutobs.checkup.cost import HEALTHY, TROUBLED, Cost, cost
from rolloutobs.checkup.exposition import Exposed
from rolloutobs.checkup.model import Finding, Level
from rolloutobs.cli.asking import Asker, address, of_the_cluster
from rolloutobs.cli.options import seconds
from rolloutobs.errors import ConfigurationError

__all__ = ["add_parser", "run"]

HEALTHY_EXIT: Final = 0
TROUBLED_EXIT: Final = 1
_TOP: Final = 10
_MARKS: Final = {Level.GOOD: "ok  ", Level.NOTE: "note", Level.BAD: "BAD "}

_DESCRIPTION: Final = """\
Look at the /metrics of one process, or at the Prometheus that scrapes many, and say what is wrong, and how to
mend it: identity labels that are missing or renamed, label sets that overflow, failures of telemetry itself;
and what it costs. Of a Prometheus also: whether both tracks are scraped and told apart, synthetic traffic is
kept apart, buckets are fine and the same on both sides, kube-state-metrics knows the versions of pods, the
collector, the gate's server and the watcher are scraped, clocks agree, scrapes come often enough for the
rules, and all rules are loaded.
"""

_EPILOG: Final = """\
examples:
  rolloutobs doctor --url localhost:8000               one pod (kubectl port-forward deploy/shop 8000)
  rolloutobs doctor --url localhost:8000 --json | jq '.findings[] | select(.level == "bad")'
  rolloutobs doctor --prometheus http://prometheus:9090
  rolloutobs doctor --prometheus http://prometheus:9090 --app shop     during its rollout, best of all
  rolloutobs doctor --routes 50                        what an app with 50 routes will cost

exit codes:
  0  all is well; notes are no reason to worry
  1  something is BAD
  2  usage, or there was no answer
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check the telemetry of an app, and what it costs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", metavar="ADDRESS", help="/metrics of a process; host:port is enough")
    parser.add_argument("--token", default="", help="bearer token for --url or --prometheus")
    parser.add_argument(
        "--prometheus", metavar="URL", help="the Prometheus (Thanos, Mimir) that scrapes the apps"
    )
    parser.add_argument("--app", default="", help="look at this app only (with --prometheus)")
    parser.add_argument("--routes", type=int, metavar="N", help="state what an app with N routes costs")
    parser.add_argument("--timeout", type=seconds, default=10.0, metavar="TIME", help="of one answer (10s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check what is asked for and return the exit code.

    Raises:
        ConfigurationError: nothing is asked for, or an address is none.
        SourceError: there was no answer, or it was not metrics.
    """
    if arguments.url is None and arguments.prometheus is None and arguments.routes is None:
        raise ConfigurationError(
            "give --url, --prometheus or --routes; rolloutobs doctor --help has examples"
        )
    if arguments.routes is not None and arguments.routes < 0:
        raise ConfigurationError(f"--routes is {arguments.routes}; use 0 or more")
    ask = Asker(arguments.token, arguments.timeout)
    exposed = None if arguments.url is None else exposition.read(*ask(address(arguments.url, "/metrics")))
    findings = [] if exposed is None else exposition.check(exposed)
    if arguments.prometheus is not None:
        findings += of_the_cluster(ask, arguments.prometheus, arguments.app)
    costs = (
        []
        if arguments.routes is None
        else [cost(arguments.routes, statuses) for statuses in (HEALTHY, TROUBLED)]
    )
    if arguments.json:
        print(json.dumps(_to_mapping(findings, exposed, costs), indent=2))
    else:
        _print(findings, exposed, costs)
    return TROUBLED_EXIT if any(finding.level is Level.BAD for finding in findings) else HEALTHY_EXIT


def _to_mapping(findings: list[Finding], exposed: Exposed | None, costs: list[Cost]) -> dict[str, Any]:
    found: dict[str, Any] = {"findings": [finding.to_mapping() for finding in findings]}
    if exposed is not None:
        found["series"], found["bytes"] = exposed.series, exposed.bytes
        found["metrics"] = [asdict(size) for size in exposed.sizes]
        found["labels"] = [asdict(use) for use in exposed.label_uses()[:_TOP]]
        found["identities"] = [
            {"app": app, "version": version, "track": track, "series": series}
            for (app, version, track), series in exposed.identities.items()
        ]
    if costs:
        found["cost"] = [asdict(one) for one in costs]
    return found


def _print(findings: list[Finding], exposed: Exposed | None, costs: list[Cost]) -> None:
    for finding in findings:
        print(f"{_MARKS[finding.level]}  {finding.subject}: {finding.what}")
        if finding.advice:
            print(f"      -> {finding.advice}")
    if findings:
        print(f"\n{_summary(findings)}")
    if exposed is not None:
        _print_sizes(exposed)
    for one in costs:
        answered = ", ".join(map(str, one.statuses))
        print(
            f"\n{one.routes} routes that have answered {answered}: {one.series} series per pod "
            f"({one.series_per_route:.0f} per route), {_size(one.bytes)} per scrape, "
            f"{_size(one.gzip_bytes)} in gzip"
        )


def _summary(findings: list[Finding]) -> str:
    bad, notes = (sum(finding.level is level for finding in findings) for level in (Level.BAD, Level.NOTE))
    noted = f", {counted(notes, 'note')}" if notes else ""
    if not bad:
        return f"all is well{noted}"
    return f"{counted(bad, 'thing is', 'things are')} BAD{noted}"


def _print_sizes(exposed: Exposed) -> None:
    print(f"\n{exposed.series} series, {_size(exposed.bytes)} per scrape before compression; the largest:")
    for size in exposed.sizes[:_TOP]:
        print(f"  {size.series:>7} series {_size(size.bytes):>9}  {size.name}")
    uses = [use for use in exposed.label_uses() if use.values > 1][:_TOP]
    if uses:
        print("\nlabels with the most values:")
        for use in uses:
            print(f"  {use.values:>7} values  {use.metric}{{{use.label}}}, such as {use.example!r}")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
