"""``rolloutobs status``: how far is a rollout, and is it well?"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.cluster_options import add_cluster, connection_of
from rolloutobs.cli.options import seconds
from rolloutobs.cli.terminal import painter
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.cluster.access import Connection
    from rolloutobs.cluster.looking import Seen

__all__ = ["add_parser", "run"]

HEALTHY: Final = 0
BAD: Final = 1
IN_PROGRESS: Final = 3

_DESCRIPTION: Final = """\
Show a rollout: of a Deployment, an Argo Rollout or a Flagger Canary. Conditions, replicas, pods by version
and track, what has happened, events, and in one sentence whether it is well. Without a name: all workloads of
the namespace, a line each.
"""

_EPILOG: Final = """\
examples:
  rolloutobs status -n shop
  rolloutobs status deployment/shop -n shop
  rolloutobs status canary/shop -w                     until it is complete, stuck or rolled back
  rolloutobs status rollout/shop -o json | jq -r .health.sentence

exit codes:
  0  healthy
  1  bad: stuck, rolled back by its controller, or pods that cannot run (without a name: any of them)
  2  usage, or the cluster cannot be read
  3  in progress
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "status",
        help="show a rollout in a cluster",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workload", nargs="?", metavar="KIND/NAME", help="deployment/NAME, rollout/NAME or canary/NAME"
    )
    parser.add_argument("-n", "--namespace", metavar="NAME", help="default: that of the context")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="workloads of all namespaces")
    parser.add_argument(
        "-w", "--watch", action="store_true", help="show it again and again, until it is not in progress"
    )
    parser.add_argument(
        "--every", type=seconds, default=2.0, metavar="TIME", help="with -w: how often (default: 2s)"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    add_cluster(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show what is asked for and return the exit code.

    Raises:
        ConfigurationError: there is no such workload, or nothing says where the cluster is.
        ClusterError: the cluster cannot be read.
    """
    if arguments.workload and arguments.all_namespaces:
        raise ConfigurationError("use a name or --all-namespaces, not both")
    connection = connection_of(arguments, "status")
    show = _json if arguments.output == "json" else _text
    return asyncio.run(_shown(arguments, connection, show))


Show = Callable[["Seen", str | None, float], tuple[str, int]]
"""From what was seen, the name asked for and the time to what is printed and the exit code."""


async def _shown(arguments: argparse.Namespace, connection: Connection, show: Show) -> int:
    from rolloutobs.cluster._http import Api, BrokenError, BusyError
    from rolloutobs.cluster.looking import look

    namespace = "" if arguments.all_namespaces else arguments.namespace or connection.namespace
    screen = _Screen(is_moving=arguments.watch and arguments.output == "text")
    has_seen, began = False, time.time()
    async with Api(connection) as api:
        while True:
            try:
                seen = await look(api, namespace)
            except (BrokenError, BusyError) as error:
                if not has_seen or not arguments.watch:
                    raise
                screen.notes([f"{error}; trying again"])
                await asyncio.sleep(arguments.every)
                continue
            has_seen = True
            text, code = show(seen, arguments.workload, time.time())
            screen.show(text, show(seen, arguments.workload, began)[0])
            screen.notes(seen.notes)
            if not arguments.watch or (code != IN_PROGRESS and arguments.workload):
                return code
            await asyncio.sleep(arguments.every)


class _Screen:
    """Prints: on a terminal that is watched over what was there, else whenever more than ages has changed."""

    def __init__(self, *, is_moving: bool) -> None:
        self._clears = is_moving and sys.stdout.isatty()
        self._last: str | None = None
        self._noted: frozenset[str] = frozenset()

    def notes(self, texts: Iterable[str]) -> None:
        """Print those of `texts` that were not there the last time."""
        now = frozenset(texts)
        for text in sorted(now - self._noted):
            print(f"rolloutobs: {text}", file=sys.stderr)
        self._noted = now

    def show(self, text: str, unaged: str) -> None:
        """Print `text`; `unaged` is the same as it would be if no time had gone by."""
        if self._clears:
            # To the first line, and erase what follows. Source: ECMA-48, CUP and ED.
            print(f"\x1b[H\x1b[2J{text}", flush=True)
            self._noted = frozenset()
        elif unaged != self._last:
            print(text if self._last is None else f"\n{text}", flush=True)
        self._last = unaged


def _text(seen: Seen, name: str | None, now: float) -> tuple[str, int]:
    from rolloutobs.cluster import page
    from rolloutobs.cluster.looking import chosen

    paint = painter(sys.stdout)
    if name is None:
        return page.table(seen.workloads, now, paint), _worst(seen, now)
    workload = chosen(seen.workloads, name)
    return page.detail(workload, seen.changes, now, paint), _code(workload, now)


def _json(seen: Seen, name: str | None, now: float) -> tuple[str, int]:
    from rolloutobs.cluster import page
    from rolloutobs.cluster.looking import chosen

    if name is None:
        plain: Any = {"workloads": [page.mapping(item, seen.changes, now) for item in seen.workloads]}
        return json.dumps(plain, indent=2), _worst(seen, now)
    workload = chosen(seen.workloads, name)
    return json.dumps(page.mapping(workload, seen.changes, now), indent=2), _code(workload, now)


def _code(workload: Any, now: float) -> int:
    from rolloutobs.cluster.health import Wellness, health

    codes = {Wellness.HEALTHY: HEALTHY, Wellness.BAD: BAD, Wellness.IN_PROGRESS: IN_PROGRESS}
    return codes[health(workload, now).wellness]


def _worst(seen: Seen, now: float) -> int:
    codes = {_code(workload, now) for workload in seen.workloads}
    return next((code for code in (BAD, IN_PROGRESS) if code in codes), HEALTHY)
