"""``rolloutobs serve``: verdicts of many workloads over HTTP, for Flagger, Argo Rollouts and people."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.cluster_options import add_cluster, connection_of
from rolloutobs.cli.options import address, require
from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from rolloutobs.cli.annotated import Annotated
    from rolloutobs.cli.tracing import Tracer
    from rolloutobs.cli.workloads import WorkloadFile
    from rolloutobs.console.app import Console
    from rolloutobs.console.failures import Failures
    from rolloutobs.console.model import Happening, Status
    from rolloutobs.console.notifying import Notifier
    from rolloutobs.console.tokens import Tokens

__all__ = ["TOKEN", "add_parser", "run"]

TOKEN: Final = "ROLLOUTOBS_SERVE_TOKEN"  # noqa: S105 - a name, not a secret
"""Tokens that are accepted, several with blanks between them."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_REREAD_SECONDS: Final = 2.0
_ANNOTATIONS_SECONDS: Final = 15.0
_MOST_AT_ONCE: Final = 200
"""Requests; more are refused at once, which is no for every webhook."""
_GRACE_SECONDS: Final = 5

_DESCRIPTION: Final = """\
Watch the rollouts of many workloads, and answer over HTTP what is to be done: to Flagger's webhooks, to the
web provider of Argo Rollouts, and to people, with a live page.

Every answer comes from the last finished look, at once. What is not known is never a pass."""

_EPILOG: Final = f"""\
the file of workloads (YAML; read again when it changes):
  unlisted: ["*"]                      # namespaces whose workloads need no entry
  defaults:
    prometheus: http://prometheus:9090
  workloads:
    - namespace: shop
      name: shop                       # app: shop, unless it says otherwise
      owner: team-shop
      rollback: unsafe                 # hold and call the owner instead; --cluster reads both
                                       # from the annotations of the workload, too

  An entry has the options of gate that say where to read and which side a series is on, with _ for -, and
  namespace, name, match, owner, rollback, notify.

paths:
  GET  /v1/verdict?namespace=&workload=[&rollout=ID]   for Argo Rollouts: pass, fail or inconclusive
  POST /flagger/TYPE                                   for Flagger: its webhooks of that type
  POST /v1/override                                    a person decides, with a reason
  GET  /  /rollouts/NAMESPACE/WORKLOAD                 pages
  GET  /v1/workloads  /healthz  /readyz  /metrics

tokens (as "Authorization: Bearer ...", or as the password of basic authentication) stand one a line in
--token-file, or in {TOKEN}.

With --cluster, and with OTEL_TRACES_EXPORTER=otlp (and the other variables of OpenTelemetry), each decision
is a span of the rollout's trace, which rolloutobs watch sends, as one of rolloutobs gate is.

exit codes:
  0  stopped by SIGTERM or SIGINT
  2  usage or infrastructure: it could not start
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="verdicts over HTTP, for Flagger, Argo Rollouts and people",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--workloads", type=Path, required=True, metavar="FILE", help="what is watched, as YAML"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="keep evidence and logs there, and go on after a restart"
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:9400", metavar="ADDRESS", help="host:port (default: %(default)s)"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=f"holds accepted tokens, one a line; read again when it changes (or the variable {TOKEN})",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="let everybody ask, beyond this machine too; an override takes a token all the same, and is "
        "refused where there is none",
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="read the annotations rolloutobs.io/rollback and rolloutobs.io/owner of workloads, too; the "
        "more careful of file and annotation holds",
    )
    add_cluster(parser)
    parser.add_argument(
        "--parallel",
        type=int,
        default=8,
        metavar="N",
        help="how many workloads are read at once (default: 8)",
    )
    parser.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="serve HTTPS with this certificate (PEM)"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, if it is not in there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes; return the exit code."""
    require("serve", "starlette", "uvicorn", "numpy", "httpx2", "yaml", "jinja2", extra="serve")
    from rolloutobs.cli.workloads import WorkloadFile
    from rolloutobs.console.app import application
    from rolloutobs.console.failures import Failures
    from rolloutobs.console.notifying import Notifier

    host, port = address(arguments.listen)
    failures = Failures()
    tokens = _tokens(arguments, host, os.environ, failures)
    if arguments.parallel < 1:
        raise ConfigurationError(f"--parallel is {arguments.parallel}; use 1 or more")
    file = WorkloadFile(arguments.workloads)
    _log_to_stderr()
    notifier = Notifier(failures, time.time)
    annotated = _annotated(arguments, failures)
    console = _console(arguments, file, tokens, notifier, failures, annotated)
    app = application(console)
    app.router.lifespan_context = lambda _: _upkeep(console, file, failures, annotated)
    server = _server(app, (host, port), arguments)
    with contextlib.ExitStack() as stack:
        # Who looks is closed first: what the last looks have found still goes out.
        for each in (notifier, _tracer(arguments, console, failures), console.looker):
            if each is not None:
                each.start()
                stack.callback(each.close)
        try:
            server.run()
        except SystemExit:
            # uvicorn's own way to say that the address cannot be listened on; it has told why.
            return 2
    return 0 if server.started else 2


def _server(app: Starlette, where: tuple[str, int], arguments: argparse.Namespace) -> uvicorn.Server:
    import uvicorn

    from rolloutobs.console.connection import Connection

    config = uvicorn.Config(
        app,
        http=Connection,
        host=where[0],
        port=where[1],
        access_log=False,
        server_header=False,
        ws="none",
        log_level="warning",
        limit_concurrency=_MOST_AT_ONCE,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=arguments.tls_cert,
        ssl_keyfile=arguments.tls_key,
    )
    server = uvicorn.Server(config)
    # Asked to stop, uvicorn ends its process by the same signal once more, before the last looks are kept.
    server.capture_signals = lambda: _stopped_by_signals(server)  # type: ignore[method-assign]
    return server


def _tokens(
    arguments: argparse.Namespace, host: str, environ: Mapping[str, str], failures: Failures
) -> Tokens:
    from rolloutobs.console.tokens import Tokens

    tokens = Tokens(environ.get(TOKEN, "").split(), arguments.token_file, failures)
    if not tokens and not arguments.no_token and host not in _LOOPBACK:
        raise ConfigurationError(
            f"--listen {arguments.listen} is open to others: add --token-file (or {TOKEN}), or --no-token"
        )
    return tokens


def _annotated(arguments: argparse.Namespace, failures: Failures) -> Annotated | None:
    """Return what is written in the cluster, read once; ``None``: nobody wants to know."""
    if not arguments.cluster:
        return None
    connection = connection_of(arguments, "serve")
    from rolloutobs.cli.annotated import Annotated

    found = Annotated(connection, failures)
    asyncio.run(found.reread())
    return found


def _tracer(arguments: argparse.Namespace, console: Console, failures: Failures) -> Tracer | None:
    """Return what sends decisions as spans; ``None``: that is not configured, or nobody knows of what."""
    from rolloutobs.settings import Settings

    if not arguments.cluster or not Settings.from_env(os.environ).export_traces:
        return None
    from rolloutobs.cli.tracing import Tracer

    return Tracer(connection_of(arguments, "serve"), console.board, failures, time.time)


def _console(
    arguments: argparse.Namespace,
    file: WorkloadFile,
    tokens: Tokens,
    notifier: Notifier,
    failures: Failures,
    annotated: Annotated | None,
) -> Console:
    from rolloutobs.cli.following import Follower
    from rolloutobs.console.app import Console
    from rolloutobs.console.board import Board
    from rolloutobs.console.keeping import Folder
    from rolloutobs.console.looking import Looker
    from rolloutobs.console.metrics import Metrics

    folder = Folder(arguments.state) if arguments.state else None

    def happened(status: Status, happening: Happening) -> None:
        _log(status, happening)
        notifier(status, happening)

    more = {"annotated": annotated.of} if annotated else {}
    board = Board(folder, time.time, happened, failures, **more)
    for key in folder.keys() if folder else ():
        file.cover(key)
    for workload in file.workloads.values():
        board.put(workload)
    looker = Looker(board, Follower(folder, arguments.parallel))
    return Console(
        board,
        looker,
        tokens,
        Metrics(board, failures, time.time),
        time.time,
        cover=file.cover,
        unreadable=lambda: file.failed or (annotated.failed if annotated else ""),
        is_open=arguments.no_token,
    )


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, server.handle_exit) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.asynccontextmanager
async def _upkeep(
    console: Console, file: WorkloadFile, failures: Failures, annotated: Annotated | None
) -> AsyncIterator[None]:
    """Read the file of workloads again, and annotations, as long as the application runs."""
    tasks = [asyncio.create_task(_reread_the_file(console, file, failures))]
    if annotated:
        tasks.append(asyncio.create_task(_reread_annotations(console, annotated)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _reread_the_file(console: Console, file: WorkloadFile, failures: Failures) -> None:
    while True:
        await asyncio.sleep(_REREAD_SECONDS)
        before = file.failed
        if await asyncio.to_thread(file.reread):
            _taken_over(console, file)
        for key in await asyncio.to_thread(console.board.drop_quiet):
            file.uncover(key)
        if file.failed and file.failed != before:
            failures.count("workloads")
            logging.getLogger("rolloutobs.serve").error("what was there before holds: %s", file.failed)


async def _reread_annotations(console: Console, annotated: Annotated) -> None:
    while True:
        await asyncio.sleep(_ANNOTATIONS_SECONDS)
        await annotated.reread()
        await asyncio.to_thread(console.board.guard)


def _taken_over(console: Console, file: WorkloadFile) -> None:
    wanted = file.workloads
    console.board.remove([s.workload.key for s in console.board.all() if s.workload.key not in wanted])
    for workload in wanted.values():
        console.board.put(workload)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s rolloutobs: %(message)s"))
    logger = logging.getLogger("rolloutobs.serve")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _log(status: Status, happening: Happening) -> None:
    by = f" ({happening.by})" if happening.by else ""
    place = f"{status.workload.namespace}/{status.workload.name}"
    logging.getLogger("rolloutobs.serve").info("%s: %s: %s%s", place, happening.kind, happening.text, by)
