"""The guard rails of the command line: what the options say, and the annotations of a workload."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from rolloutobs.analysis.guardrails import Guardrails, Rollback, parsed
from rolloutobs.cli.cluster_options import add_cluster, connection_of
from rolloutobs.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.analysis.report import Report
    from rolloutobs.cluster.owned import Owned

__all__ = ["Rails", "add_rails", "add_workload", "rails_of"]


def add_rails(parser: argparse.ArgumentParser) -> None:
    """Add the options that say it themselves."""
    rails = parser.add_argument_group("guard rails")
    rails.add_argument(
        "--rollback",
        type=_rollback,
        default=(Rollback.SAFE, ""),
        metavar="SAFE",
        help="'unsafe', or 'unsafe: why': where the old version cannot take over again, a rollback becomes a "
        "hold that pages a person (default: safe)",
    )
    rails.add_argument(
        "--owner",
        default="",
        metavar="WHO",
        help="a team or a channel, named in every verdict and notification",
    )


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where it is written."""
    rails = parser.add_argument_group("guard rails of a workload")
    rails.add_argument(
        "--workload",
        default="",
        metavar="KIND/NAME",
        help="deployment/NAME, rollout/NAME or canary/NAME: its annotations rolloutobs.io/rollback and "
        "rolloutobs.io/owner count as --rollback and --owner do",
    )
    rails.add_argument("-n", "--namespace", default="", metavar="NAME", help="of the workload")
    add_cluster(parser)


def rails_of(arguments: argparse.Namespace) -> Guardrails:
    """Return what `add_rails` has led to."""
    rollback, why = arguments.rollback
    return Guardrails(rollback, why, arguments.owner.strip())


class Rails:
    """What holds machines back. The annotations are read now, so that a wrong one is told before an hour of
    watching, and once more for each decision: they may be written for this very rollout.

    Args:
        arguments: the command line.
        command: the name of the command, for messages.

    Raises:
        ConfigurationError: there is no such workload, or an annotation has a word that nobody knows.
        ClusterError: the cluster cannot be read.
    """

    def __init__(self, arguments: argparse.Namespace, command: str) -> None:
        self.rollout = ""
        """Which one the workload is in, as its trace has it; empty: not known."""
        self._arguments, self._command = arguments, command
        self._options = rails_of(arguments)
        if arguments.namespace and not arguments.workload:
            raise ConfigurationError("--namespace is that of --workload, which is missing")
        self._annotations = Guardrails()
        if arguments.workload:
            self._take(self._read())

    def applied(self, report: Report) -> Report:
        """Return `report` under the rails that hold now; what cannot be read again holds as it was."""
        notes: tuple[str, ...] = ()
        if self._arguments.workload:
            try:
                self._take(self._read())
            except (ClusterError, ConfigurationError) as error:
                notes = (f"the annotations are those from before, as they cannot be read now: {error}",)
                if isinstance(error, ConfigurationError):
                    # It is there and says something that nobody understands.
                    self._annotations = Guardrails.unread(str(error), self._annotations.owner)
        return replace(report, rails=self._options.over(self._annotations), notes=(*report.notes, *notes))

    def _take(self, found: Owned) -> None:
        self._annotations, self.rollout = found.rails, found.rollout

    def _read(self) -> Owned:
        from rolloutobs.cluster.owned import owned

        connection = connection_of(self._arguments, self._command)
        return asyncio.run(owned(connection, self._arguments.workload, self._arguments.namespace))


def _rollback(text: str) -> tuple[Rollback, str]:
    try:
        return parsed(text, "--rollback")
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
