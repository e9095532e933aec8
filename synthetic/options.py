"""The command line of `rolloutobs-synthetic`: its options, and what they mean as settings.

Belongs here: argparse, and nothing that runs.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from synthetic.discovery import choose, find_journeys
from synthetic.journey import Journey
from synthetic.load.swarm import Plan
from synthetic.routing import parse_route
from synthetic.runner import Check, Schedule
from synthetic.settings import BrowserSettings, CheckSettings, parse_base_url, parse_duration
from synthetic.target import Target
from synthetic.witness import parse_witness

__all__ = ["checks_of", "chosen", "make_parser", "option_rows", "plan_of", "targets_of"]

_EXIT_CODES = """
exit codes:
  0  the canary passed
  1  the canary failed what stable passed at the same time
  2  wrong usage or infrastructure: nothing ran, nothing answers, both tracks fail
  3  inconclusive: it is not proven that the wanted version answered
"""

_RUN = """\
Walk journeys through a real browser, against stable and canary at the same moment, in pairs.

A journey is an async function in a Python file (one whose first argument is 'api' needs no browser):

  async def checkout(page, shop):
      async with shop.step("open the shop"):
          await shop.open("/")
      async with shop.step("add to cart"):
          await page.get_by_role("button", name="Add to cart").first.click()

Every page and API answer has to prove who gave it (Server-Timing, as rolloutobs.instrument() sends it to
synthetic traffic, or what --identity names). An answer of the wrong version makes the run inconclusive, never
a pass.
"""
_RUN_EXAMPLES = """
examples:
  rolloutobs-synthetic run journeys/shop.py:checkout --app shop \\
      --stable http://127.0.0.1:8001 --canary http://127.0.0.1:8002 --canary-version 1.2.0
  rolloutobs-synthetic run journeys/ --list
  rolloutobs-synthetic run journeys/ --tag smoke --app shop --entry https://shop.example \\
      --canary-header 'X-Canary: always' --stable-header 'X-Canary: never' --retries 1 --html report.html
  rolloutobs-synthetic run journeys/ --app shop --entry https://shop.example --attempts 100
"""
_SERVE = """\
Run journeys again and again until stopped, and serve what they find to Prometheus: 'run' with --every 5m and
--listen :9300 where nothing else is said.
"""
_SERVE_EXAMPLES = """
example:
  rolloutobs-synthetic serve journeys/ --app shop --stable URL --canary URL --every 5m
"""
_INIT = """\
Write two first journeys: one opens the start page and sees that there is something, one needs no browser.
"""
_INIT_EXAMPLES = """
example:
  rolloutobs-synthetic init journeys/first.py
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

_RAW = argparse.RawDescriptionHelpFormatter
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has ``command``, the word."""
    parser = argparse.ArgumentParser(
        prog="rolloutobs-synthetic",
        description="Checks and loads against both tracks of a rollout.",
        epilog=_EXIT_CODES,
        formatter_class=_RAW,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_init(commands)
    _add_run(commands)
    _add_serve(commands)
    _add_load(commands)
    _add_users(commands)
    return parser


def option_rows() -> dict[str, list[tuple[str, str]]]:
    """Return (option, help) of every command, for the tables in the documentation."""
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
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


def _add_init(commands: Commands) -> None:
    parser = commands.add_parser(
        "init", help="write a first journey", description=_INIT, epilog=_INIT_EXAMPLES, formatter_class=_RAW
    )
    parser.add_argument("file", metavar="FILE.py", type=Path, help="a file that does not exist yet")


def _add_run(commands: Commands) -> None:
    parser = commands.add_parser(
        "run", help="walk journeys in pairs", description=_RUN, epilog=_RUN_EXAMPLES + _EXIT_CODES,
        formatter_class=_RAW,
    )  # fmt: skip
    _add_checks(parser)
    parser.add_argument("--list", action="store_true", help="list the journeys that would run, and end")
    parser.add_argument("--every", help="start so often, e.g. 30s (default: run once)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="serve /metrics there while pairs run")
    _add_outputs(parser)


def _add_serve(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve", help="walk journeys all day long", description=_SERVE,
        epilog=_SERVE_EXAMPLES + _EXIT_CODES, formatter_class=_RAW,
    )  # fmt: skip
    _add_checks(parser)
    parser.add_argument("--every", default="5m", help="start so often (default: %(default)s)")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default=":9300", help="serve /metrics there (default: %(default)s)"
    )
    _add_outputs(parser)
    parser.set_defaults(list=False)


def _add_checks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "journeys", metavar="JOURNEY", nargs="+",
        help="FILE.py:FUNCTION or package.module:function, a file, or a folder with all its journeys",
    )  # fmt: skip
    choosing = parser.add_argument_group("which journeys")
    choosing.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="run these only, * and ? work (repeatable)",
    )
    choosing.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="run those with this tag only (repeatable)"
    )
    _add_routes(parser)
    parser.add_argument(
        "--check", help="name of the check in metrics and reports (default: the function's; one journey only)"
    )
    parser.add_argument(
        "--timeout", default="30s", help="limit of one track's journey (default: %(default)s)"
    )
    parser.add_argument(
        "--retries", type=int, default=0, metavar="N",
        help="walk both tracks up to so many times more after a failure; passed on retry is an outcome "
        "of its own (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=int,
        help="end after so many pairs of each journey (default: 1; with --every: until stopped)",
    )  # fmt: skip
    parser.add_argument(
        "--error-rate", type=float, metavar="RATE",
        help="blame the canary only when chance would do so in this share of all sequences of pairs, e.g. "
        "0.05 (default: one pair is enough)",
    )  # fmt: skip


def _add_routes(parser: argparse.ArgumentParser) -> None:
    routes = parser.add_argument_group("who is asked")
    _add_targets(routes, is_required=False)
    routes.add_argument("--entry", metavar="URL", help="the address that both tracks share")
    for track in (Track.STABLE, Track.CANARY):
        routes.add_argument(
            f"--{track}-header", action="append", default=[], metavar="NAME:VALUE",
            help=f"a header that leads to {track} (repeatable)",
        )  # fmt: skip
        routes.add_argument(
            f"--{track}-cookie", action="append", default=[], metavar="NAME=VALUE",
            help=f"a cookie that leads to {track} (repeatable)",
        )  # fmt: skip
        routes.add_argument(
            f"--{track}-query", action="append", default=[], metavar="NAME=VALUE",
            help=f"a part of the query that leads to {track} (repeatable)",
        )  # fmt: skip
    routes.add_argument(
        "--attempts", type=int, default=0, metavar="N",
        help="the address splits by weight: be a new visitor up to N times until the wanted track answers",
    )  # fmt: skip
    routes.add_argument(
        "--identity", default="server-timing", metavar="FORM",
        help="where answers say who they come from: server-timing, header:VERSION-HEADER[,TRACK-HEADER], "
        "metrics:/PATH or json:/PATH:VERSION.FIELD[,TRACK.FIELD] (default: %(default)s)",
    )  # fmt: skip


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    outputs = parser.add_argument_group("what is left")
    outputs.add_argument(
        "--artifacts", metavar="FOLDER", type=Path,
        help="keep screenshot, Playwright trace, console, network log and trace id of runs that do not pass",
    )  # fmt: skip
    outputs.add_argument(
        "--keep", type=int, default=20, metavar="N", help="so many failed runs there (default: %(default)s)"
    )
    outputs.add_argument("--json", metavar="FILE", type=Path, help="write results there, after each pair")
    outputs.add_argument("--junit", metavar="FILE", type=Path, help="write them as JUnit XML")
    outputs.add_argument("--html", metavar="FILE", type=Path, help="write them as one page, with pictures")
    outputs.add_argument(
        "--summary", metavar="FILE", type=Path,
        default=Path(os.environ["GITHUB_STEP_SUMMARY"]) if os.environ.get("GITHUB_STEP_SUMMARY") else None,
        help="append a summary in Markdown at the end (default: $GITHUB_STEP_SUMMARY)",
    )  # fmt: skip
    outputs.add_argument(
        "--push", metavar="URL",
        help="push metrics to this Pushgateway after each pair; a push replaces all of the one before",
    )  # fmt: skip
    outputs.add_argument(
        "--otlp", action="store_true", help="send metrics over OTLP, as OTEL_EXPORTER_OTLP_ENDPOINT etc. say"
    )


def _add_load(commands: Commands) -> None:
    parser = commands.add_parser(
        "load",
        help="run a paired load",
        description=_LOAD,
        epilog=_LOAD_EXAMPLES + _EXIT_CODES,
        formatter_class=_RAW,
    )
    _add_targets(parser)
    _add_plan(parser, "10s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there")


def _add_users(commands: Commands) -> None:
    parser = commands.add_parser(
        "users",
        help="be plain users, for demos",
        description=_USERS,
        epilog=_USERS_EXAMPLES,
        formatter_class=_RAW,
    )
    parser.add_argument("--host", required=True, metavar="URL", help="where the users go")
    _add_plan(parser, "60s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there")


def _add_targets(parser: argparse._ActionsContainer, *, is_required: bool = True) -> None:
    parser.add_argument(
        "--app", required=is_required, help="the app under test: its service.name, the metric label app"
    )
    for track in (Track.STABLE, Track.CANARY):
        parser.add_argument(f"--{track}", required=is_required, metavar="URL", help=f"base URL of {track}")
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


def targets_of(given: argparse.Namespace) -> tuple[Target, Target]:
    """Return stable and canary.

    Raises:
        ConfigurationError: one has no address, or nothing that tells it from the other.
    """
    stable, canary = _target(given, Track.STABLE), _target(given, Track.CANARY)
    shared = getattr(given, "entry", None) and not given.stable and not given.canary
    if shared and stable.route == canary.route and not stable.route.attempts:
        raise ConfigurationError(
            "--entry alone does not tell the tracks apart; say what does: --canary-header, --canary-cookie, "
            "--canary-query, or --attempts N where the address splits by weight"
        )
    return stable, canary


def _target(given: argparse.Namespace, track: Track) -> Target:
    entry = getattr(given, "entry", None)
    url = getattr(given, track) or entry
    option = f"--{track}" if getattr(given, track) else "--entry"
    if not url:
        raise ConfigurationError(f"{track} has no address; give --{track} URL, or --entry URL for both")
    version = getattr(given, f"{track}_version")
    if not hasattr(given, "entry"):
        return Target(parse_base_url(url, option), track, version)
    headers, cookies, query = (getattr(given, f"{track}_{part}") for part in ("header", "cookie", "query"))
    route = parse_route(headers, cookies, query, given.attempts, f"--{track}")
    return Target(parse_base_url(url, option), track, version, route, parse_witness(given.identity))


def plan_of(given: argparse.Namespace) -> Plan:
    """Return what Locust does.

    Raises:
        ConfigurationError: a number is out of its range.
    """
    if given.rate is not None and not 0 < given.rate < math.inf:
        raise ConfigurationError(f"--rate is {given.rate}; use a number above 0")
    users = given.users if given.users is not None else math.ceil(2 * given.rate) if given.rate else 4
    if users < 1:
        raise ConfigurationError(f"--users is {users}; use at least 1")
    return Plan(given.locustfile, parse_duration(given.duration, "--duration"), users, given.rate)


def chosen(given: argparse.Namespace) -> list[Journey]:
    """Return the journeys that are asked for.

    Raises:
        ConfigurationError: there is none, or one cannot be loaded.
    """
    return choose(find_journeys(given.journeys), given.only, given.tag)


def checks_of(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[list[Check], Schedule]:
    """Return the checks to run, and when.

    Raises:
        ConfigurationError: an option has no valid value.
    """
    every = None if given.every is None else parse_duration(given.every, "--every")
    count = given.count if given.count is not None else 1 if every is None else None
    if count is not None and count < 1:
        raise ConfigurationError(f"--count is {count}; use at least 1")
    if given.error_rate is not None and not 0 < given.error_rate < 1:
        raise ConfigurationError(f"--error-rate is {given.error_rate}; use a number between 0 and 1")
    journeys = chosen(given)
    if given.check and len(journeys) > 1:
        raise ConfigurationError(f"--check names one journey, and there are {len(journeys)}; use --only")
    if not given.app:
        raise ConfigurationError("--app is missing; use the service.name of the app under test")
    targets = targets_of(given)
    settings = _settings(given)
    browser = BrowserSettings.from_env(environ)
    checks = [Check(_for(settings, journey, given.check), journey, *targets, browser) for journey in journeys]
    return checks, Schedule(every, count, len(checks))


def _settings(given: argparse.Namespace) -> CheckSettings:
    if given.retries < 0:
        raise ConfigurationError(f"--retries is {given.retries}; use 0 or more")
    if given.keep < 1:
        raise ConfigurationError(f"--keep is {given.keep}; use at least 1")
    return CheckSettings(
        app=given.app,
        check="",
        timeout_seconds=parse_duration(given.timeout, "--timeout"),
        artifacts=given.artifacts,
        keep_artifacts=given.keep,
        retries=given.retries,
    )


def _for(settings: CheckSettings, journey: Journey, name: str | None) -> CheckSettings:
    """Return the settings of one journey, which may say something else than the command line."""
    retries = settings.retries if journey.retries is None else journey.retries
    seconds = journey.timeout_seconds or settings.timeout_seconds
    return replace(settings, check=name or journey.name, timeout_seconds=seconds, retries=retries)
