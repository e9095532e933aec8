"""The options of `rolloutobs-synthetic load` and `users`, and what they mean as a plan.

Belongs here: argparse, and nothing that runs.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TypeAlias

from rolloutobs.errors import ConfigurationError
from synthetic.load.swarm import Plan
from synthetic.settings import parse_duration
from synthetic.targeting import add_targets

__all__ = ["add_load", "add_users", "plan_of"]

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


def add_load(commands: Commands, exit_codes: str) -> None:
    """Add the command `load`."""
    parser = commands.add_parser(
        "load",
        help="run a paired load",
        description=_LOAD,
        epilog=_LOAD_EXAMPLES + exit_codes,
        formatter_class=_RAW,
    )
    add_targets(parser)
    _add_plan(parser, "10s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there")


def add_users(commands: Commands) -> None:
    """Add the command `users`."""
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
