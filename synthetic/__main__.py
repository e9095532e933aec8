"""`rolloutobs-synthetic`: checks and loads against both tracks of a rollout."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

from rolloutobs.errors import ConfigurationError, RolloutobsError
from rolloutobs.identity import Track
from synthetic.journey import load_journey
from synthetic.load.results import judge_load
from synthetic.load.swarm import Plan, run_load, run_users
from synthetic.load.tables import load_as_dict, load_text
from synthetic.metrics import CheckMetrics, serve
from synthetic.report import Summary, pair_line, pair_text, write_json
from synthetic.result import ExitCode, Pair, PairVerdict, exit_code
from synthetic.runner import Check, PairRunner, Schedule, run_pairs
from synthetic.settings import BrowserSettings, CheckSettings, parse_base_url, parse_duration, parse_listen
from synthetic.target import Target

__all__ = ["main", "option_rows"]

log = logging.getLogger(__name__)

_EXIT_CODES = """
exit codes:
  0  the canary passed
  1  the canary failed what stable passed at the same time
  2  wrong usage or infrastructure: nothing ran, nothing answers, both tracks fail
  3  inconclusive: it is not proven that the wanted version answered
"""

_RUN = """\
Walk a journey through a real browser, against stable and canary at the same moment, in pairs.

A journey is an async function in a Python file:

  async def checkout(page, shop):
      async with shop.step("open the shop"):
          await shop.open("/")
      async with shop.step("add to cart"):
          await page.get_by_role("button", name="Add to cart").first.click()

Every page and API answer has to prove who gave it (Server-Timing, as rolloutobs.instrument() sends it to
synthetic traffic). An answer of the wrong version makes the run inconclusive, never a pass.
"""
_RUN_EXAMPLES = """
examples:
  rolloutobs-synthetic run journeys/shop.py:checkout --app shop \\
      --stable http://127.0.0.1:8001 --canary http://127.0.0.1:8002 --canary-version 1.2.0
  rolloutobs-synthetic run journeys/shop.py:checkout --app shop --stable URL --canary URL \\
      --every 30s --listen :9300        # runs until stopped; Prometheus scrapes /metrics
"""
_LOAD = """\
Run a locustfile on stable and canary at the same time, marked synthetic, and compare.

Derive the locustfile's users from synthetic.load.RolloutUser:

  from locust import task
  from synthetic.load import RolloutUser

  class Shopper(RolloutUser):
      @task
      def browse(self):
          self.client.get("/api/products")
"""
_LOAD_EXAMPLES = """
examples:
  rolloutobs-synthetic load --app shop --locustfile load.py \\
      --stable http://127.0.0.1:8001 --canary http://127.0.0.1:8002 --users 10 --duration 30s
  rolloutobs-synthetic load ... --rate 20   # 20 tasks a second arrive at each track
"""
_USERS = """\
Run a locustfile at one host as plain users: not marked synthetic. For demos and rehearsals: these requests
count as real users' in every metric and every verdict.
"""
_USERS_EXAMPLES = """
example:
  rolloutobs-synthetic users --locustfile load.py --host http://127.0.0.1:8000 --rate 12 --duration 2m
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    given = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], Coroutine[None, None, ExitCode]] = given.command
    try:
        return int(asyncio.run(command(given)))
    except (RolloutobsError, OSError) as problem:
        print(f"rolloutobs-synthetic: {problem}", file=sys.stderr)
        return int(ExitCode.INFRASTRUCTURE)
    except Exception:
        # Python's own exit code would be 1, which blames the canary.
        log.exception("the check itself failed")
        return int(ExitCode.INFRASTRUCTURE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rolloutobs-synthetic", description=__doc__, epilog=_EXIT_CODES, formatter_class=_RAW
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_load(commands)
    _add_users(commands)
    return parser


_RAW = argparse.RawDescriptionHelpFormatter


def option_rows() -> dict[str, list[tuple[str, str]]]:
    """Return (option, help) of every command, for the tables in the documentation."""
    commands = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, parser in commands.choices.items():
        rows[name] = [
            (" ".join(filter(None, [*action.option_strings[-1:], _metavar(action)])), _help(action))
            for action in parser._actions
            if action.dest != "help"
        ]
    return rows


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _help(action: argparse.Action) -> str:
    text = (action.help or "").replace("%(default)s", str(action.default))
    return f"{text} (required)".strip() if action.required and action.option_strings else text


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run", help="walk a journey in pairs", description=_RUN, epilog=_RUN_EXAMPLES + _EXIT_CODES,
        formatter_class=_RAW,
    )  # fmt: skip
    parser.set_defaults(command=_run)
    parser.add_argument(
        "journey", metavar="FILE.py:FUNCTION", help="the journey; package.module:function works too"
    )
    _add_targets(parser)
    parser.add_argument("--check", help="name of the check in metrics and reports (default: the function's)")
    parser.add_argument(
        "--timeout", default="30s", help="limit of one track's journey (default: %(default)s)"
    )
    parser.add_argument("--every", help="start a pair so often, e.g. 30s (default: run once)")
    parser.add_argument(
        "--count", type=int, help="end after so many pairs (default: 1; with --every: until stopped)"
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="serve /metrics there while pairs run")
    parser.add_argument(
        "--artifacts", metavar="FOLDER", type=Path,
        help="keep screenshot, console log and trace id of runs that do not pass (the last 20)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there, after each pair")


def _add_load(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "load",
        help="run a paired load",
        description=_LOAD,
        epilog=_LOAD_EXAMPLES + _EXIT_CODES,
        formatter_class=_RAW,
    )
    parser.set_defaults(command=_load)
    _add_targets(parser)
    _add_plan(parser, "10s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there")


def _add_users(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "users",
        help="be plain users, for demos",
        description=_USERS,
        epilog=_USERS_EXAMPLES,
        formatter_class=_RAW,
    )
    parser.set_defaults(command=_be_users)
    parser.add_argument("--host", required=True, metavar="URL", help="where the users go")
    _add_plan(parser, "60s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there")


def _add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--app", required=True, help="the app under test: its service.name, the metric label app"
    )
    for track in (Track.STABLE, Track.CANARY):
        parser.add_argument(f"--{track}", required=True, metavar="URL", help=f"base URL of {track}")
        parser.add_argument(
            f"--{track}-version", metavar="VERSION",
            help=f"version that has to answer at {track} (default: any that says it is {track})",
        )  # fmt: skip


def _add_plan(parser: argparse.ArgumentParser, duration: str) -> None:
    parser.add_argument("--locustfile", required=True, metavar="FILE", type=Path, help="the users")
    parser.add_argument(
        "--users",
        type=int,
        metavar="N",
        help="users at the same time (default: 4; with --rate: twice the rate)",
    )
    parser.add_argument(
        "--rate", type=float, metavar="R",
        help="tasks that arrive per second, at random (default: the locustfile's own wait_time)",
    )  # fmt: skip
    parser.add_argument("--duration", default=duration, help="how long, e.g. 30s (default: %(default)s)")


def _targets(given: argparse.Namespace) -> tuple[Target, Target]:
    stable = parse_base_url(given.stable, "--stable")
    canary = parse_base_url(given.canary, "--canary")
    return (
        Target(stable, Track.STABLE, given.stable_version),
        Target(canary, Track.CANARY, given.canary_version),
    )


def _plan(given: argparse.Namespace) -> Plan:
    if given.rate is not None and not 0 < given.rate < math.inf:
        raise ConfigurationError(f"--rate is {given.rate}; use a number above 0")
    users = given.users if given.users is not None else math.ceil(2 * given.rate) if given.rate else 4
    if users < 1:
        raise ConfigurationError(f"--users is {users}; use at least 1")
    return Plan(given.locustfile, parse_duration(given.duration, "--duration"), users, given.rate)


def _stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set: what runs then ends in order and says what it has."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _run(given: argparse.Namespace) -> ExitCode:
    check, schedule = _check(given)
    stop = _stop_on_signals()
    summary = Summary(check.settings.app, check.settings.check)
    metrics = CheckMetrics(check.settings.app, check.settings.check, (check.stable, check.canary))

    def publish(pair: Pair) -> None:
        metrics.publish(pair)
        summary.add(pair)
        number = summary.counts.total()
        terse = number > 1 and pair.verdict is PairVerdict.PASS
        print(pair_line(number, pair) if terse else pair_text(number, pair), flush=True)
        if given.json is not None:
            try:
                write_json(given.json, summary.as_dict(exit_code(summary.counts)))
            except OSError as problem:
                # A full disk does not end a check that Prometheus scrapes; the last write, below, does raise.
                metrics.count_internal_error("json")
                log.warning("%s could not be written: %s", given.json, problem)

    with ExitStack() as stack:
        if given.listen is not None:
            url = stack.enter_context(serve(metrics, *parse_listen(given.listen, "--listen")))
            print(f"metrics at {url()}", flush=True)
        async with PairRunner(check, SystemRandom(), time.time, metrics.count_internal_error) as runner:
            await run_pairs(runner, schedule, publish, stop)
    code = exit_code(summary.counts)
    if given.json is not None:
        write_json(given.json, summary.as_dict(code))
    print(summary.line(code), flush=True)
    return code


def _check(given: argparse.Namespace) -> tuple[Check, Schedule]:
    every = None if given.every is None else parse_duration(given.every, "--every")
    count = given.count if given.count is not None else 1 if every is None else None
    if count is not None and count < 1:
        raise ConfigurationError(f"--count is {count}; use at least 1")
    journey = load_journey(given.journey)
    stable, canary = _targets(given)
    settings = CheckSettings(
        app=given.app,
        check=given.check or journey.name,
        timeout_seconds=parse_duration(given.timeout, "--timeout"),
        artifacts=given.artifacts,
    )
    return Check(settings, journey, stable, canary, BrowserSettings.from_env(os.environ)), Schedule(
        every, count
    )


async def _load(given: argparse.Namespace) -> ExitCode:
    plan, targets = _plan(given), _targets(given)
    loads = await run_load(plan, *targets, _stop_on_signals())
    verdict = judge_load(*loads)
    if given.json is not None:
        write_json(given.json, load_as_dict(given.app, loads, verdict))
    print(load_text(loads, verdict), flush=True)
    return verdict.code


async def _be_users(given: argparse.Namespace) -> ExitCode:
    plan = _plan(given)
    users = await run_users(plan, parse_base_url(given.host, "--host"), _stop_on_signals())
    if given.json is not None:
        write_json(given.json, load_as_dict("", [users], None))
    print(load_text([users], None), flush=True)
    return ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main())
