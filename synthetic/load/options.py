"""The options of `rolloutobs-synthetic load` and `users`, and what they mean as a plan.

Belongs here: argparse of these two commands, and nothing that runs.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from rolloutobs.errors import ConfigurationError
from synthetic.endpoint import add_listen
from synthetic.load.judging import Thresholds
from synthetic.load.orders import Orders
from synthetic.load.schedule import Phase, expected, parse_rate, peak
from synthetic.load.swarm import Plan, Role
from synthetic.settings import parse_base_url, parse_duration, parse_listen
from synthetic.target import Target
from synthetic.targeting import add_routes

__all__ = [
    "add_load",
    "add_users",
    "plan_of",
    "thresholds_of",
    "users_plan_of",
]

_LOAD = """\
Put the same load on stable and canary at the same time, marked synthetic, and compare.

Without a locustfile, users ask for the paths that --get names. With one, they do what it says; derive its
users from synthetic.load.RolloutUser:

  from locust import between, task
  from synthetic.load import RolloutUser

  class Shopper(RolloutUser):
      wait_time = between(1, 3)

      @task
      def browse(self):
          self.client.get("/api/products")

With --rate tasks arrive at that rate, however slow the answers are (an open model), and durations are
measured from the moment at which a task should have begun: a server that stalls is not spared by users who
wait for it. Without, so many --users do one task after the other, as their wait_time says.
"""
_LOAD_EXAMPLES = """
examples:
  rolloutobs-synthetic load --app shop --stable http://127.0.0.1:8001 --canary http://127.0.0.1:8002 \\
      --get / --get /api/products --rate 20 --duration 1m --p99 400ms --max-error-share 0.01
  rolloutobs-synthetic load --app shop --stable URL --canary URL --locustfile load.py \\
      --rate 5..50@1m,50@5m --users 200 --html load.html --junit load.xml
  rolloutobs-synthetic load --app shop --entry https://shop.example --canary-header 'X-Canary: always' \\
      --locustfile load.py --rate 20 --duration 1m

on several machines, one master, which has all options, and workers, which need none but its address:
  rolloutobs-synthetic load --master --expect-workers 2 --app shop --stable URL --canary URL \\
      --locustfile load.py --rate 200 --duration 5m
  rolloutobs-synthetic load --worker --master-host load-master
"""
_USERS = """\
Run a locustfile at one host as plain users: not marked synthetic. For demos and rehearsals: these requests
count as real users' in every metric and every verdict.
"""
_USERS_EXAMPLES = """
example:
  rolloutobs-synthetic users --locustfile load.py --host http://127.0.0.1:8000 --rate 12 --duration 2m
"""
_DURATION_SECONDS = 10.0
_USERS_SECONDS = 60.0
_USERS_USUALLY = 4
_PORT = 5557
"""Locust's own."""
_MOST_TICKS = 120
_RAW = argparse.RawDescriptionHelpFormatter
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_load(commands: Commands, exit_codes: str) -> None:
    """Add the command `load`."""
    parser = commands.add_parser(
        "load", help="put a load on both tracks", description=_LOAD, epilog=_LOAD_EXAMPLES + exit_codes,
        formatter_class=_RAW,
    )  # fmt: skip
    add_routes(parser)
    parser.add_argument(
        "--load", metavar="NAME", default="paired",
        help="name of the load in metrics and reports (default: %(default)s)",
    )  # fmt: skip
    _add_tasks(parser, "10s; with --count: until so many have arrived")
    _add_thresholds(parser)
    _add_processes(parser)
    _add_outputs(parser)


def add_users(commands: Commands) -> None:
    """Add the command `users`."""
    parser = commands.add_parser(
        "users", help="be plain users, for demos", description=_USERS, epilog=_USERS_EXAMPLES,
        formatter_class=_RAW,
    )  # fmt: skip
    parser.add_argument("--host", required=True, metavar="URL", help="where the users go")
    _add_tasks(parser, "60s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there")


def _add_tasks(parser: argparse.ArgumentParser, duration: str) -> None:
    tasks = parser.add_argument_group("what users do, and how often")
    tasks.add_argument("--locustfile", metavar="FILE", type=Path, help="the users, derived from RolloutUser")
    tasks.add_argument(
        "--get", action="append", default=[], metavar="PATH",
        help="without a locustfile: ask for this path (repeatable; default: /)",
    )  # fmt: skip
    tasks.add_argument(
        "--rate", metavar="RATE",
        help="tasks that arrive per second on each track: 20, a ramp 5..50, or steps 5@30s,5..50@1m,50@5m "
        "(default: as the locustfile's wait_time says)",
    )  # fmt: skip
    tasks.add_argument(
        "--arrivals", choices=("random", "even"), default="random",
        help="random: a Poisson process, as real users come; even: at equal distances (default: %(default)s)",
    )  # fmt: skip
    tasks.add_argument(
        "--users", type=int, metavar="N",
        help="users on each track, and so the most tasks in flight (default: 4; with --rate: twice the "
        "highest rate, which is enough for tasks of two seconds)",
    )  # fmt: skip
    tasks.add_argument("--duration", help=f"how long tasks begin, e.g. 30s (default: {duration})")
    tasks.add_argument(
        "--count", type=int, metavar="N", help="with --rate: end after so many tasks on both tracks together"
    )
    tasks.add_argument(
        "--grace", default="5s",
        help="how long what is under way may take at the end; what does not end then has failed "
        "(default: %(default)s)",
    )  # fmt: skip


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    wanted = parser.add_argument_group("what is wanted of the canary")
    wanted.add_argument(
        "--max-slowdown", type=float, default=1.25, metavar="FACTOR",
        help="longest that its durations may be, times stable's (default: %(default)s)",
    )  # fmt: skip
    wanted.add_argument(
        "--max-error-share", type=float, metavar="SHARE",
        help="most of its requests that may fail, e.g. 0.01 (default: not more than stable's)",
    )  # fmt: skip
    for name in ("p50", "p95", "p99", "p999"):
        wanted.add_argument(
            f"--{name}", metavar="DURATION",
            help=f"longest that its {name} may be, e.g. 400ms (default: any, if stable's is like it)",
        )  # fmt: skip
    wanted.add_argument(
        "--min-requests", type=int, default=50, metavar="N",
        help="fewer on a track are inconclusive (default: %(default)s)",
    )  # fmt: skip
    wanted.add_argument(
        "--error-rate", type=float, default=0.05, metavar="RATE",
        help="blame the canary only when chance would do so in this share of all loads "
        "(default: %(default)s)",
    )  # fmt: skip


def _add_processes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where requests are made")
    group.add_argument(
        "--processes", type=int, default=1, metavar="N",
        help="so many workers on this machine, for one process makes 2,000 requests a second at best "
        "(default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--master", action="store_true", help="lead workers on other machines")
    group.add_argument(
        "--expect-workers", type=int, metavar="N", help="with --master: begin when so many have come"
    )
    group.add_argument(
        "--wait", default="60s", help="with --master: how long they may take to come (default: %(default)s)"
    )
    group.add_argument(
        "--bind", metavar="HOST:PORT", default=f":{_PORT}",
        help="with --master: listen there (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--worker", action="store_true", help="make requests for a master, and leave the verdict to it"
    )
    group.add_argument("--master-host", metavar="HOST", help="with --worker: where its master is")
    group.add_argument(
        "--master-port", type=int, default=_PORT, metavar="PORT",
        help="with --worker: the master's port (default: %(default)s)",
    )  # fmt: skip


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    outputs = parser.add_argument_group("what is left")
    outputs.add_argument("--json", metavar="FILE", type=Path, help="write results there")
    outputs.add_argument("--junit", metavar="FILE", type=Path, help="write findings as JUnit XML")
    outputs.add_argument("--html", metavar="FILE", type=Path, help="write them as one page")
    outputs.add_argument(
        "--summary", metavar="FILE", type=Path,
        default=Path(os.environ["GITHUB_STEP_SUMMARY"]) if os.environ.get("GITHUB_STEP_SUMMARY") else None,
        help="append a summary in Markdown at the end (default: $GITHUB_STEP_SUMMARY)",
    )  # fmt: skip
    add_listen(outputs, " while the load runs")
    outputs.add_argument(
        "--push", metavar="URL",
        help="push metrics to this Pushgateway, meanwhile and at the end; a push replaces all of the one "
        "before",
    )  # fmt: skip
    outputs.add_argument(
        "--otlp", action="store_true", help="send metrics over OTLP, as OTEL_EXPORTER_OTLP_ENDPOINT etc. say"
    )


def plan_of(given: argparse.Namespace, targets: Sequence[Target]) -> Plan:
    """Return what `load` does; a worker's master has the rest.

    Args:
        given: the options.
        targets: stable and canary; none of a worker.

    Raises:
        ConfigurationError: an option has no valid value, or does not go with another.
    """
    role = _role(given)
    if role is Role.WORKER:
        if not given.master_host:
            raise ConfigurationError("--worker needs --master-host HOST: the machine on which --master runs")
        address = (given.master_host, given.master_port)
        return Plan(Orders(), given.locustfile, "", 1, role, address=address)
    plan = _plan(given, targets, targets[0].url, _DURATION_SECONDS)
    if role is Role.MASTER and (given.expect_workers or 0) < 1:
        raise ConfigurationError(f"--expect-workers is {given.expect_workers}; --master needs at least 1")
    host, port = parse_listen(given.bind, "--bind")
    return Plan(
        plan.orders, plan.locustfile, plan.host, plan.users, role, given.processes, given.expect_workers or 0,
        parse_duration(given.wait, "--wait"), ("*" if host == "0.0.0.0" else host, port),  # noqa: S104
    )  # fmt: skip


def users_plan_of(given: argparse.Namespace) -> Plan:
    """Return what `users` does.

    Raises:
        ConfigurationError: an option has no valid value.
    """
    return _plan(given, (), parse_base_url(given.host, "--host"), _USERS_SECONDS)


def thresholds_of(given: argparse.Namespace) -> Thresholds:
    """Return what is wanted of the canary.

    Raises:
        ConfigurationError: a number is out of its range.
    """
    if not 1.0 <= given.max_slowdown < math.inf:
        raise ConfigurationError(f"--max-slowdown is {given.max_slowdown}; use a factor from 1")
    for name in ("max_error_share", "error_rate"):
        value = getattr(given, name)
        if value is not None and not 0 < value < 1:
            option = name.replace("_", "-")
            raise ConfigurationError(f"--{option} is {value}; use a number between 0 and 1")
    if given.min_requests < 1:
        raise ConfigurationError(f"--min-requests is {given.min_requests}; use at least 1")
    quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
    return Thresholds(
        max_slowdown=given.max_slowdown,
        max_error_share=given.max_error_share,
        quantiles={
            share: parse_duration(getattr(given, name), f"--{name}")
            for name, share in quantiles.items()
            if getattr(given, name) is not None
        },
        min_requests=given.min_requests,
        error_rate=given.error_rate,
    )


def _role(given: argparse.Namespace) -> Role:
    if given.master and given.worker:
        raise ConfigurationError("--master and --worker are two processes; use one of them")
    if given.processes < 1:
        raise ConfigurationError(f"--processes is {given.processes}; use at least 1")
    if given.processes > 1 and (given.master or given.worker):
        raise ConfigurationError("--processes starts a master and workers of its own; use it without them")
    if given.master:
        return Role.MASTER
    return Role.WORKER if given.worker else Role.ALONE


def _plan(given: argparse.Namespace, targets: Sequence[Target], host: str, usual_seconds: float) -> Plan:
    if given.locustfile is not None and given.get:
        raise ConfigurationError("--get is for loads without a locustfile; use one of them")
    if any(not path.startswith("/") for path in given.get):
        raise ConfigurationError(f"--get is {', '.join(given.get)}; use paths that begin with /")
    phases, seconds = _course(given, usual_seconds)
    usual_users = math.ceil(2 * peak(phases)) if phases else _USERS_USUALLY
    users = usual_users if given.users is None else given.users
    if users < 1:
        raise ConfigurationError(f"--users is {users}; use at least 1")
    lasts = sum(phase.seconds for phase in phases) if phases else seconds
    orders = Orders(
        marked=bool(targets),
        targets=tuple(targets),
        phases=phases,
        even=given.arrivals == "even",
        seconds=None if phases else seconds,
        count=given.count,
        paths=tuple(given.get),
        grace_seconds=parse_duration(given.grace, "--grace"),
        tick_seconds=1.0 if math.isinf(lasts) else max(1.0, lasts / _MOST_TICKS),
    )
    return Plan(orders, given.locustfile, host, users)


def _course(given: argparse.Namespace, usual_seconds: float) -> tuple[tuple[Phase, ...], float]:
    """Return the phases, and how long a load without them takes."""
    seconds = None if given.duration is None else parse_duration(given.duration, "--duration")
    if given.count is not None and given.count < 1:
        raise ConfigurationError(f"--count is {given.count}; use at least 1")
    if given.rate is None:
        if given.count is not None:
            raise ConfigurationError("--count counts arrivals; give --rate, too")
        return (), usual_seconds if seconds is None else seconds
    if "@" in given.rate and seconds is not None:
        raise ConfigurationError("--rate has durations of its own; leave --duration out")
    usual = math.inf if given.count is not None else usual_seconds
    phases = parse_rate(given.rate, usual if seconds is None else seconds, "--rate")
    if given.count is not None and 2 * expected(phases) < given.count:
        raise ConfigurationError(f"--count is {given.count}, and --rate ends before so many have arrived")
    return phases, 0.0
