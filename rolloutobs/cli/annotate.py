"""``rolloutobs annotate``: mark a rollout in Grafana from a script."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.grafana import TOKEN, URL, access_of, add_grafana
from rolloutobs.cli.options import seconds
from rolloutobs.errors import GrafanaError, MissingExtraError

if TYPE_CHECKING:
    from rolloutobs.cluster.annotations import Annotation
    from rolloutobs.cluster.grafana import Done, Grafana
    from rolloutobs.cluster.regions import Ending

__all__ = ["add_parser", "run"]

_ATTEMPTS: Final = 6
"""With waits of up to 1, 2, 4, 8 and 16 seconds."""

_DESCRIPTION: Final = """\
Mark a rollout in Grafana: a region from its start to its end, or a point.

Every call can be repeated. An annotation is found again by its tag rollout:KEY, so that a job that runs twice
writes it once. What passes (a busy server, one that does not answer) is tried again until --timeout."""

_EPILOG: Final = f"""\
examples:
  A region around a deployment, whatever becomes of it:
    export {URL}=https://grafana.example {TOKEN}=glsa_...
    rolloutobs annotate start --key shop-$GITHUB_RUN_ID --text 'shop 1.1.0 -> 1.2.0' --tag app:shop
    ... deploy ...
    rolloutobs annotate end --key shop-$GITHUB_RUN_ID --outcome promoted

  On one dashboard, with the token in a file:
    rolloutobs annotate start --key shop-1.2.0 --text 'shop 1.2.0' --dashboard version-comparison \\
        --grafana https://grafana.example --token-file /run/secrets/grafana

  A moment:
    rolloutobs annotate point --text 'cache of the shop flushed' --tag app:shop --at 2026-11-20T10:00Z

A dashboard shows annotations without --dashboard if it has an annotation query on Grafana itself, by tags:
"rollout" finds all of them.

exit codes:
  0  written, or there already
  2  usage, or Grafana has not taken it
"""


def add_parser(subparsers: Any) -> None:
    """Add the command and what it can write."""
    parser = subparsers.add_parser(
        "annotate",
        help="mark a rollout in Grafana, from a script",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    writes = parser.add_subparsers(title="what to write", metavar="WHAT", required=True, dest="what")
    start = writes.add_parser("start", help="begin a region")
    end = writes.add_parser("end", help="end it")
    point = writes.add_parser("point", help="mark a moment")
    for each in (start, end):
        each.add_argument("--key", required=True, help="names the rollout; the same at its start and its end")
    point.add_argument("--key", help="write the point once for this key (default: once for each call)")
    for each in (start, point):
        each.add_argument("--text", required=True, help="what is shown; Grafana takes some HTML")
        each.add_argument("--panel", type=int, metavar="ID", help="of the dashboard; only there")
    end.add_argument("--text", default="", help="takes the place of the text of the start")
    end.add_argument(
        "--outcome", default="", metavar="WORD", help="how it ended: a tag, and the end of the text"
    )
    for each in (start, end, point):
        each.add_argument(
            "--tag", action="append", default=[], metavar="TAG", help="another tag (repeatable)"
        )
        each.add_argument("--dashboard", default="", metavar="UID", help="only on this dashboard")
        each.add_argument("--at", type=_moment, metavar="TIME", help="2026-11-20T10:00Z (default: now)")
        add_grafana(each)
        each.add_argument(
            "--timeout", type=seconds, default=60.0, metavar="TIME", help="for all attempts (default: 60s)"
        )
        each.add_argument("--dry-run", action="store_true", help="say what would be written; ask nobody")
        each.add_argument("--format", choices=("text", "json"), default="text", help="(default: %(default)s)")
        each.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write, say what became of it, and return the exit code."""
    if importlib.util.find_spec("httpx2") is None:
        raise MissingExtraError("cluster", "rolloutobs annotate", "httpx2")
    wanted = _wanted(arguments)
    if arguments.dry_run:
        _tell(arguments, {"act": "dry run", "id": None, **_plain(wanted)})
        return 0
    done = asyncio.run(_write(arguments, wanted))
    _tell(arguments, {"act": done.act.value, "id": done.id, **_plain(wanted)})
    return 0


def _wanted(arguments: argparse.Namespace) -> Annotation | Ending:
    from rolloutobs.cluster.annotations import Annotation
    from rolloutobs.cluster.regions import Ending

    at = time.time() if arguments.at is None else arguments.at
    tags = tuple(tag.strip() for tag in arguments.tag)
    if arguments.what == "end":
        return Ending(arguments.key, at, arguments.outcome, arguments.text, tags, arguments.dashboard)
    # A point of no key has one all the same, so that it is not written twice where an answer was lost.
    key = f"point-{secrets.token_hex(8)}" if arguments.key is None else arguments.key
    return Annotation(key, arguments.text, at, None, tags, arguments.dashboard, arguments.panel)


def _plain(wanted: Annotation | Ending) -> dict[str, Any]:
    from rolloutobs.cluster.regions import Ending

    if isinstance(wanted, Ending):
        return {"key": wanted.key, "end": _timestamp(wanted.at), "outcome": wanted.outcome or None}
    return {"key": wanted.key, "start": _timestamp(wanted.start), "body": wanted.body()}


async def _write(arguments: argparse.Namespace, wanted: Annotation | Ending) -> Done:
    from rolloutobs.analysis._http import Retries
    from rolloutobs.cluster.grafana import Grafana, retried
    from rolloutobs.cluster.regions import Ending, begin, finish

    url, access = access_of(arguments)
    last: list[GrafanaError] = []

    async def attempt(grafana: Grafana) -> Done:
        try:
            if isinstance(wanted, Ending):
                return await finish(grafana, wanted)
            return await begin(grafana, wanted)
        except GrafanaError as error:
            last[:] = [error]
            raise

    try:
        async with (
            asyncio.timeout(arguments.timeout),
            Grafana(url, access, min(arguments.timeout, 10.0)) as grafana,
        ):
            return await retried(lambda: attempt(grafana), Retries(_ATTEMPTS, first_seconds=1.0))
    except TimeoutError:
        why = f": {last[0]}" if last else ""
        raise GrafanaError(f"not written within {arguments.timeout:g} s{why}") from None


def _tell(arguments: argparse.Namespace, told: Mapping[str, Any]) -> None:
    if arguments.format == "json":
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    number = "" if told["id"] is None else f" {told['id']}"
    body = f" {json.dumps(told['body'], ensure_ascii=False)}" if told["id"] is None and "body" in told else ""
    print(f"{told['act']}: {arguments.what}{number}, rollout:{told['key']}{body}")


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; use 2026-11-20T10:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
