"""``rolloutobs gate``: watch a rollout until it is decided."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.options import EXIT_CODES, output_file, read_policy, require, seconds, write
from rolloutobs.cli.sources import add_sources
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.analysis.gate import Look
    from rolloutobs.analysis.report import Override, Report
    from rolloutobs.cli.keeping import StateFile
    from rolloutobs.cli.watching import Watch

__all__ = ["add_parser", "run"]

INFRASTRUCTURE: Final = 2

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

A command gets the JSON report on its stdin, and ROLLOUTOBS_VERDICT, _REASON, _DECIDED_BY, _APP,
_CANARY_VERSION and _STABLE_VERSION (all beginning with ROLLOUTOBS_VERDICT) in its environment. One that fails
makes the exit code 2: the decision stands, and has not been carried out.

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
    _add_lasting(parser)
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
        "--listen", metavar="ADDRESS", help="serve /metrics and /healthz on host:port while watching"
    )


def _add_actions(parser: argparse.ArgumentParser) -> None:
    acting = parser.add_argument_group("acting on the verdict")
    for decision in ("rollback", "promote", "hold"):
        acting.add_argument(
            f"--on-{decision}", metavar="COMMAND", help=f"run this in a shell, once, at a {decision}"
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


def run(arguments: argparse.Namespace) -> int:
    """Watch, print the verdict, write the reports, act, and return the exit code."""
    require("gate", "numpy", "httpx2", *(("jinja2",) if arguments.html else ()))
    from rolloutobs.analysis.report import to_text
    from rolloutobs.cli.acting import Action
    from rolloutobs.cli.terminal import painter

    wanted = _wanted(arguments)
    # Wrong addresses are told now, not after an hour of watching.
    Action.wanted(arguments, "hold")
    report = _watched(arguments, wanted)
    # First of all: a report that cannot be written must not take the verdict along.
    sys.stdout.write(to_text(report, painter(sys.stdout)))
    sys.stdout.flush()
    # And what cannot be written must not take the action along.
    unwritten = _write_reports(arguments, report)
    done = _act(arguments, wanted, report)
    if unwritten:
        raise unwritten
    return _code(arguments, report) if done else INFRASTRUCTURE


def _code(arguments: argparse.Namespace, report: Report) -> int:
    from rolloutobs.analysis.report import exit_code

    code = exit_code(report.decision)
    if arguments.dry_run:
        _say(f"dry run: would exit with {code}")
        return 0
    return code


def _wanted(arguments: argparse.Namespace) -> Watch:
    from rolloutobs.analysis.gate import GateSettings
    from rolloutobs.cli.keeping import StateFile
    from rolloutobs.cli.watching import Watch

    policy = read_policy(arguments.policy, "gate", arguments.metrics)
    if arguments.deadline:
        policy = replace(policy, deadline_seconds=arguments.deadline)
    return Watch(
        policy,
        GateSettings(arguments.app, arguments.interval, policy.deadline_seconds),
        look_back_seconds=max(policy.past.minimum_seconds, 1800.0),
        state=StateFile(arguments.state) if arguments.state else None,
        override=_override(arguments),
    )


def _override(arguments: argparse.Namespace) -> Override | None:
    from rolloutobs.analysis.model import Decision
    from rolloutobs.analysis.report import Override

    reason = (arguments.reason or "").strip()
    if bool(arguments.override) != bool(reason):
        raise ConfigurationError("--override and --reason belong together: say who decided it, and why")
    return Override(Decision(arguments.override), reason) if arguments.override else None


def _watched(arguments: argparse.Namespace, wanted: Watch) -> Report:
    from rolloutobs.cli.watching import watch

    with _observers(arguments, wanted) as observers:

        def observe(look: Look) -> None:
            for observer in observers:
                observer(look)

        return asyncio.run(watch(arguments, wanted, observe))


@contextlib.contextmanager
def _observers(arguments: argparse.Namespace, wanted: Watch) -> Iterator[list[Callable[[Look], None]]]:
    """Yield those who want to see every look."""
    from rolloutobs.cli.exporter import Exporter, address
    from rolloutobs.cli.terminal import progress

    with contextlib.ExitStack() as stack:
        observers: list[Callable[[Look], None]] = []
        if not arguments.quiet:
            shown = progress(sys.stderr, wanted.policy.deadline_seconds)
            stack.callback(shown.close)
            observers.append(shown)
        if arguments.listen:
            exporter = Exporter(address(arguments.listen), arguments.app, wanted.settings.interval_seconds)
            stack.callback(exporter.close)
            observers.append(exporter)
        yield observers


def _write_reports(arguments: argparse.Namespace, report: Report) -> OSError | None:
    """Write the reports; return the first error, after trying both."""
    from rolloutobs.analysis.report import to_json

    failed: OSError | None = None
    wanted: list[tuple[Path | None, Callable[[Report], str]]] = [(arguments.json, to_json)]
    if arguments.html:
        from rolloutobs.analysis.page import to_html

        wanted.append((arguments.html, to_html))
    for path, render in wanted:
        if path is None:
            continue
        try:
            write(path, render(report))
        except OSError as error:
            failed = failed or error
    return failed


def _act(arguments: argparse.Namespace, wanted: Watch, report: Report) -> bool:
    """Run the command and notify, and say what became of it; return whether the decision is carried out.

    A gate that was stopped has not decided to hold, and one that goes on from a state does not act again.
    """
    from rolloutobs.analysis.model import Decision
    from rolloutobs.cli.acting import Action, notify, run_command

    if report.interrupted and report.decision is Decision.HOLD:
        _say("stopped, undecided" + (f"; go on with --state {arguments.state}" if arguments.state else ""))
        return True
    action = Action.wanted(arguments, report.decision.value)
    state = wanted.state
    if state and report.decision.value in state.acted:
        _say(f"{report.decision.value} was acted on before, as {state.path} says")
        return True
    done = True
    if action.command:
        ran = asyncio.run(run_command(action, report))
        _say(ran.text)
        done = ran.good
    if action.url:
        _say(asyncio.run(notify(action, report)).text)
    if state and done and not action.dry_run and (action.command or action.url):
        _note(state, report)
    return done


def _note(state: StateFile, report: Report) -> None:
    try:
        state.note(report.decision.value)
    except OSError as error:
        _say(f"that it was acted on cannot be written, a gate after this one will act again: {error}")


def _say(text: str) -> None:
    print(f"rolloutobs: {text}", file=sys.stderr)
