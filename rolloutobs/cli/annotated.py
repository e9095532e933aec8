"""The annotations of a cluster's workloads, as ``rolloutobs serve`` knows them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from rolloutobs.analysis.guardrails import Guardrails
from rolloutobs.cluster.access import Connection
from rolloutobs.cluster.owned import all_rails
from rolloutobs.console.failures import Failures
from rolloutobs.console.model import Key
from rolloutobs.errors import ClusterError, ConfigurationError

__all__ = ["Annotated"]

_SECONDS: Final = 20.0
"""For one reading."""

logger: Final = logging.getLogger("rolloutobs.serve")


class Annotated:
    """What owners have written on their workloads, read again and again; until it was read once, a rail that
    nobody can see may be on each.

    Args:
        connection: to the API server.
        failures: counts.
    """

    def __init__(self, connection: Connection, failures: Failures) -> None:
        self._connection, self._failures = connection, failures
        self._rails: Mapping[Key, Guardrails] | None = None
        self.failed = ""
        """Why the last reading failed; empty: it did not, and what was read before it holds."""

    def of(self, key: Key) -> Guardrails:
        """Return what is written on a workload; nothing, where there is no such workload."""
        if self._rails is None:
            return Guardrails.unread("its annotations cannot be read")
        return self._rails.get(key, Guardrails())

    async def reread(self) -> None:
        """Read all of them again."""
        before = self.failed
        try:
            async with asyncio.timeout(_SECONDS):
                self._rails = await all_rails(self._connection)
            self.failed = ""
        except (ClusterError, ConfigurationError, TimeoutError) as error:
            self.failed = f"annotations cannot be read: {str(error) or 'the API server does not answer'}"
            self._failures.count("cluster")
            if self.failed != before:
                logger.error("%s", self.failed)
