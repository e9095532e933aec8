"""What the commands that read a cluster have in common: where it is, and as whom."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rolloutobs.cli.options import require

if TYPE_CHECKING:
    from rolloutobs.cluster.access import Connection

__all__ = ["add_cluster", "connection_of"]


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    where = parser.add_argument_group("the cluster")
    where.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="default: $KUBECONFIG, else the service account in a pod, else ~/.kube/config",
    )
    where.add_argument(
        "--context", default="", metavar="NAME", help="of the kubeconfig; default: its current one"
    )


def connection_of(arguments: argparse.Namespace, command: str) -> Connection:
    """Return how to reach the cluster.

    Raises:
        ConfigurationError: nothing says where it is, or what says so cannot be used.
        MissingExtraError: the extra is not installed.
    """
    require(command, "httpx2", extra="cluster")
    from rolloutobs.cluster.access import connect

    return connect(os.environ, arguments.kubeconfig, arguments.context)
