"""The options that say who is asked: the addresses of both tracks, how to reach them, and what proves them.

Belongs here: those options and what they mean as targets, for checks and loads alike.
"""

from __future__ import annotations

import argparse

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from synthetic.routing import parse_route
from synthetic.settings import parse_base_url
from synthetic.target import Target
from synthetic.witness import parse_witness

__all__ = ["add_routes", "targets_of"]


def _add_targets(parser: argparse._ActionsContainer) -> None:
    """Add the app and the URL and version of both tracks."""
    parser.add_argument("--app", help="the app under test: its service.name, the metric label app")
    for track in (Track.STABLE, Track.CANARY):
        parser.add_argument(f"--{track}", metavar="URL", help=f"base URL of {track}")
        parser.add_argument(
            f"--{track}-version", metavar="VERSION",
            help=f"version that has to answer at {track} (default: any that says it is {track})",
        )  # fmt: skip


def add_routes(parser: argparse.ArgumentParser) -> None:
    """Add the targets, and the ways to them through one address."""
    routes = parser.add_argument_group("who is asked")
    _add_targets(routes)
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


def targets_of(given: argparse.Namespace) -> tuple[Target, Target]:
    """Return stable and canary.

    Raises:
        ConfigurationError: one has no address, or nothing that tells it from the other.
    """
    stable, canary = _target(given, Track.STABLE), _target(given, Track.CANARY)
    shared = given.entry and not given.stable and not given.canary
    if shared and stable.route == canary.route and not stable.route.attempts:
        raise ConfigurationError(
            "--entry alone does not tell the tracks apart; say what does: --canary-header, --canary-cookie, "
            "--canary-query, or --attempts N where the address splits by weight"
        )
    return stable, canary


def _target(given: argparse.Namespace, track: Track) -> Target:
    url = getattr(given, track) or given.entry
    option = f"--{track}" if getattr(given, track) else "--entry"
    if not url:
        raise ConfigurationError(f"{track} has no address; give --{track} URL, or --entry URL for both")
    version = getattr(given, f"{track}_version")
    headers, cookies, query = (getattr(given, f"{track}_{part}") for part in ("header", "cookie", "query"))
    route = parse_route(headers, cookies, query, given.attempts, f"--{track}")
    return Target(parse_base_url(url, option), track, version, route, parse_witness(given.identity))
