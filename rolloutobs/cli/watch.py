"""``rolloutobs watch``: the watcher, one replica in a cluster."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rolloutobs.cli.cluster_options import add_cluster, connection_of
from rolloutobs.cli.grafana import URL, access_of, add_grafana, is_wanted
from rolloutobs.cli.options import address

if TYPE_CHECKING:
    from rolloutobs.cluster.access import Connection
    from rolloutobs.cluster.journal import Journal
    from rolloutobs.cluster.model import Sink

__all__ = ["add_parser", "run"]

LISTEN: Final = ":9109"

_DESCRIPTION: Final = """\
Watch the rollouts of a cluster, and keep what happens: metrics, events beyond their hour; log events and a
trace of each rollout where an OTLP endpoint is configured; regions in Grafana. Run one replica; it lists and
watches, and writes nothing to the cluster.
"""

_EPILOG: Final = f"""\
It listens on one address: /metrics, /healthz, /readyz and /v1/events?namespace=&workload=&since=&limit=.
Changes go out as OpenTelemetry log events, and each rollout that has ended as one trace, where
OTEL_EXPORTER_OTLP_ENDPOINT (or ..._LOGS_ENDPOINT, ..._TRACES_ENDPOINT) is set. Rollouts are marked in Grafana
where --grafana or {URL} says where it is.

examples:
  rolloutobs watch                                     in a pod: every namespace
  rolloutobs watch --namespace shop --data-dir /var/lib/rolloutobs
  rolloutobs watch --grafana https://grafana.example --grafana-token-file /run/secrets/grafana/token
  rolloutobs watch --kubeconfig ~/.kube/config --listen 127.0.0.1:9109

exit codes:
  0  stopped by SIGTERM or SIGINT
  2  usage, or nothing says where the cluster is
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "watch",
        help="watch the rollouts of a cluster: metrics, events, traces, regions in Grafana",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-n",
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        help="watch this one only; may be given again (default: all, which takes a ClusterRole)",
    )
    parser.add_argument(
        "--listen",
        default=LISTEN,
        metavar="ADDRESS",
        help="default: %(default)s, on all addresses",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="keep changes there as JSON lines, at most 64 MB (default: in memory, until the end)",
    )
    add_cluster(parser)
    grafana = add_grafana(parser)
    grafana.add_argument(
        "--grafana-dashboard", default="", metavar="UID", help="only on this dashboard (default: on all)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watch until told to stop and return 0.

    Raises:
        ConfigurationError: an option is wrong, or nothing says where the cluster is.
        OSError: the address cannot be listened on.
    """
    where = address(arguments.listen)
    connection = connection_of(arguments, "watch")
    from rolloutobs.cluster.journal import Journal

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # It would say every request.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    journal = Journal(arguments.data_dir)
    asyncio.run(_watched(arguments, connection, where, journal))
    return 0


def _sinks(arguments: argparse.Namespace) -> list[Sink]:
    """Return what changes are given to besides the journal."""
    from rolloutobs.cluster.logs import log_sink
    from rolloutobs.cluster.traces import trace_sink

    sinks: list[Sink | None] = [log_sink(os.environ), trace_sink(os.environ)]
    if is_wanted(arguments):
        from rolloutobs.cluster.grafana import Grafana
        from rolloutobs.cluster.marking import GrafanaSink

        sinks.append(GrafanaSink(Grafana(*access_of(arguments)), arguments.grafana_dashboard))
    return [sink for sink in sinks if sink is not None]


async def _watched(
    arguments: argparse.Namespace, connection: Connection, where: tuple[str, int], journal: Journal
) -> None:
    from rolloutobs.cluster._http import Api
    from rolloutobs.cluster.serving import Server
    from rolloutobs.cluster.watching import Watcher

    async with Api(connection) as api:
        watcher = Watcher(api, arguments.namespace, journal, _sinks(arguments))
        async with Server(where, watcher.answer) as server:
            what = ", ".join(arguments.namespace) or "all namespaces"
            print(f"watching {what} of {connection.server}, listening on port {server.port}", flush=True)
            task = asyncio.create_task(watcher.run())
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task
