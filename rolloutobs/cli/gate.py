"""``rolloutobs gate``: watch a rollout until it is decided."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.options import EXIT_CODES, address, output_file, read_policy, require, seconds
from rolloutobs.cli.rails import Rails, add_rails, add_workload
from rolloutobs.cli.sources import add_sources, add_weight, weight_of
from rolloutobs.cli.synthetic import add_synthetic, checks_beside, first_pairs
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.analysis.gate import Look
    from rolloutobs.analysis.model import Tick
    from rolloutobs.analysis.report import Override, Report
    from rolloutobs.cli.watching import Watch

__all__ = ["add_parser", "run"]

INFRASTRUCTURE: Final = 2
_WHO: Final = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER")
"""Who runs a pipeline, or a shell. Sources: GitHub's and GitLab's lists of predefined variables."""

_DESCRIPTION: Final = """\
Watch a canary beside stable and say, as soon as it is certain enough, whether to promote it or to roll it
back.

Looking often costs nothing: the evidence is valid at every look. The gate waits for the canary's first
request; what stable does until then is the past that it is compared with. Progress goes to stderr, the
verdict to stdout. SIGTERM ends it with its reports and, undecided, exit code 3."""

_EPILOG: Final = f"""\
examples:
  Two pods of each track, straight:
    rolloutobs gate --app shop --scrape 10.0.0.1:8000 --scrape 10.0.0.2:8000 --scrape 10.0.0.9:8000

  From Prometheus, in CI, with both reports, and able to go on where it was killed:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 --state gate.json --html report.html

  And act on it, where no controller does:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 \\
        --on-rollback 'kubectl rollout undo deployment/shop' --notify https://chat.example/hook

  And watch on for an hour, while an old pod or two are kept with a tenth of the traffic:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 --state gate.json --bake 60m \\
        --on-promote 'kubectl argo rollouts promote shop' --on-rollback 'kubectl argo rollouts undo shop'

  Told which share of the traffic the canary has, so that a dead one is found:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 --weight 5%
    rolloutobs gate --app shop --prometheus http://prometheus:9090 \\
        --weight-query 'flagger_canary_weight{{workload="shop"}} / 100'

  No user traffic judged until three pairs of journeys in a browser have passed, and more of them all along:
    rolloutobs gate --app shop --scrape 10.0.0.1:8000 --scrape 10.0.0.9:8000 \\
        --synthetic 'journeys/ --stable http://10.0.0.1:8000 --canary http://10.0.0.9:8000'

  What no machine may roll back (a migration, a queue's format) is held, and a person paged; the annotations
  of the workload say it, or the options:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 --workload deployment/shop -n shop \\
        --on-rollback 'kubectl -n shop rollout undo deployment/shop' --on-page ./page-somebody
    rolloutobs gate --app shop --prometheus http://prometheus:9090 --owner team-shop \\
        --rollback 'unsafe: migration 42 drops orders.note' --on-page ./page-somebody

  A person decides against the evidence; why, and who, is kept in the report and in the events:
    rolloutobs gate --app shop --prometheus http://prometheus:9090 \\
        --override promote --reason 'the outage costs more' --who ann

A command gets the JSON report on its stdin, and ROLLOUTOBS_VERDICT, _REASON, _DECIDED_BY, _APP, _OWNER,
_PAGE (true or false), _CANARY_VERSION and _STABLE_VERSION (all beginning with ROLLOUTOBS_VERDICT) in its
environment. One that fails makes the exit code 2: the decision stands, and has not been carried out.

With OTEL_LOGS_EXPORTER=otlp (and the other variables of OpenTelemetry) each decision is sent as log events:
rolloutobs.verdict, and a rolloutobs.verdict.metric for each signal that was compared. With --workload and
OTEL_TRACES_EXPORTER=otlp it is a span of the rollout's trace, which rolloutobs watch sends.

{EXIT_CODES}

With --bake: 0 if it was promoted and nothing spoke against it until the end of the bake, 1 if it was rolled
back before or in the bake, 3 also if the bake was stopped or had nothing to compare.
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
    _add_lasting(parser)
    add_weight(parser)
    add_rails(parser)
    add_workload(parser)
    add_synthetic(parser)
    _add_actions(parser)
    parser.set_defaults(run=run)


def _add_lasting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        type=output_file,
        metavar="FILE",
        help="write the state there after each look, and go on from it after a restart; the state of another "
        "canary version is begun anew",
    )
    parser.add_argument(
        "--bake",
        type=seconds,
        metavar="TIME",
        help="after a promotion watch on for so long, the new version against the old pods that were kept, "
        "and act again if it is rolled back",
    )
    parser.add_argument(
        "--listen", metavar="ADDRESS", help="serve /metrics and /healthz on host:port while watching"
    )


def _add_actions(parser: argparse.ArgumentParser) -> None:
    acting = parser.add_argument_group("acting on the verdict")
    for decision, word in (("rollback", "rollback"), ("promote", "promotion"), ("hold", "hold")):
        acting.add_argument(
            f"--on-{decision}", metavar="COMMAND", help=f"run this in a shell, once, at a {word}"
        )
    acting.add_argument(
        "--on-page",
        metavar="COMMAND",
        help="run this instead where a rollback is called for and marked as unsafe (default: what --on-hold "
        "says)",
    )
    acting.add_argument("--notify", metavar="URL", help="post the JSON report there at the end")
    acting.add_argument(
        "--act-timeout",
        type=seconds,
        default=60.0,
        metavar="TIME",
        help="limit of a command, and of notifying (default: 60s)",
    )
    acting.add_argument(
        "--dry-run", action="store_true", help="say what would be done, do nothing, and exit with 0"
    )
    acting.add_argument(
        "--override",
        choices=("promote", "rollback"),
        help="look once, and then decide this; it is recorded in the report beside what the evidence says",
    )
    acting.add_argument("--reason", metavar="TEXT", help="why, for --override")
    acting.add_argument(
        "--who",
        metavar="NAME",
        help="who decided, for --override (default: $GITHUB_ACTOR, $GITLAB_USER_LOGIN or $USER)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Watch, tell and act; after a promotion bake, tell and act again; return the exit code."""
    require("gate", "numpy", "httpx2", *(("jinja2",) if arguments.html else ()))
    from rolloutobs.analysis.model import Decision
    from rolloutobs.cli.acting import Action
    from rolloutobs.cli.finishing import Finisher

    wanted = _wanted(arguments)
    # Wrong addresses are told now, not after an hour of watching.
    Action.wanted(arguments, "hold")
    finisher = Finisher(arguments, wanted.state)
    rails = Rails(arguments, "gate")
    decided = first_pairs(arguments)
    if decided:
        report, kept = _watched(arguments, replace(wanted, override=decided))
    else:
        with checks_beside(arguments) as sources:
            report, kept = _watched(sources, wanted)
    report = rails.applied(report)
    done = finisher.finish(report, rails.rollout)
    if done and arguments.bake and report.decision is Decision.PROMOTE:
        report = rails.applied(_baked(arguments, wanted, report, kept))
        done = finisher.finish(report, rails.rollout)
    return finisher.code(report) if done else INFRASTRUCTURE


def _baked(arguments: argparse.Namespace, wanted: Watch, report: Report, kept: Sequence[Tick]) -> Report:
    from rolloutobs.analysis.wording import duration
    from rolloutobs.cli.baking import bake_of, promoted, sides_of
    from rolloutobs.cli.finishing import say

    sides = sides_of(arguments, report.verdict)
    by = "by version" if sides is not arguments else "as before, for their versions do not differ"
    say(f"promoted; the bake watches on for {duration(arguments.bake)}, the sides told {by}")
    bake, _ = _watched(sides, bake_of(wanted, arguments.bake, report, kept), promoted)
    return replace(report, bake=bake)


def _wanted(arguments: argparse.Namespace) -> Watch:
    from rolloutobs.analysis.gate import GateSettings
    from rolloutobs.cli.keeping import StateFile
    from rolloutobs.cli.watching import Watch

    policy = read_policy(arguments.policy, "gate", arguments.metrics)
    if arguments.deadline:
        policy = replace(policy, deadline_seconds=arguments.deadline)
    look_back = max(policy.past.minimum_seconds, 1800.0)
    return Watch(
        policy,
        GateSettings(
            arguments.app,
            arguments.interval,
            policy.deadline_seconds,
            keep_seconds=look_back if arguments.bake else 0.0,
        ),
        look_back_seconds=look_back,
        state=StateFile(arguments.state) if arguments.state else None,
        override=_override(arguments),
        weight=weight_of(arguments),
    )


def _override(arguments: argparse.Namespace) -> Override | None:
    from rolloutobs.analysis.model import Decision
    from rolloutobs.analysis.report import Override

    reason = (arguments.reason or "").strip()
    if bool(arguments.override) != bool(reason):
        raise ConfigurationError("--override and --reason belong together: say why it is decided so")
    if not arguments.override:
        return None
    who = (arguments.who or "").strip() or next(filter(None, map(os.environ.get, _WHO)), "")
    if not who:
        raise ConfigurationError("--override needs --who: say who decided it; the environment does not")
    return Override(Decision(arguments.override), reason, f"by {who}", who)


def _watched(
    arguments: argparse.Namespace,
    wanted: Watch,
    seen: Callable[[Callable[[Look], None]], Callable[[Look], None]] = lambda observer: observer,
) -> tuple[Report, tuple[Tick, ...]]:
    """Watch, while observers are told each look as `seen` has it; return the report and the last ticks."""
    from rolloutobs.cli.watching import watch

    with _observers(arguments, wanted) as observers:

        def observe(look: Look) -> None:
            for observer in observers:
                observer(look)

        return asyncio.run(watch(arguments, wanted, seen(observe)))


@contextlib.contextmanager
def _observers(arguments: argparse.Namespace, wanted: Watch) -> Iterator[list[Callable[[Look], None]]]:
    """Yield those who want to see every look."""
    from rolloutobs.cli.exporter import Exporter
    from rolloutobs.cli.terminal import progress

    with contextlib.ExitStack() as stack:
        observers: list[Callable[[Look], None]] = []
        if not arguments.quiet:
            ends = "baked for" if wanted.is_bake else "decided within"
            shown = progress(sys.stderr, wanted.policy.deadline_seconds, ends)
            stack.callback(shown.close)
            observers.append(shown)
        if arguments.listen:
            exporter = Exporter(address(arguments.listen), arguments.app, wanted.settings.interval_seconds)
            stack.callback(exporter.close)
            observers.append(exporter)
        yield observers
