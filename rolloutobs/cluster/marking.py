"""A sink that marks each rollout in Grafana: a line while it goes on, a region once it has ended."""

from __future__ import annotations

from typing import Final

from rolloutobs.cluster.annotations import annotation_of
from rolloutobs.cluster.delivery import Attempt, Delivery, Outcome, Patience
from rolloutobs.cluster.grafana import Grafana
from rolloutobs.cluster.model import Change, ChangeKind, Rollout
from rolloutobs.errors import ConfigurationError, GrafanaError

__all__ = ["GrafanaSink"]

_TOLD: Final = frozenset(
    {
        ChangeKind.STARTED,
        ChangeKind.PAUSED,
        ChangeKind.RESUMED,
        ChangeKind.STUCK,
        ChangeKind.RECOVERED,
        ChangeKind.COMPLETED,
        ChangeKind.ROLLED_BACK,
        ChangeKind.SUPERSEDED,
    }
)


class GrafanaSink:
    """Writes rollouts to Grafana, as they are by then; each once, over restarts of whoever watches.

    Args:
        grafana: where to; it is closed with the sink.
        dashboard: UID; empty: the annotations are the organisation's.
        patience: how long and how many wait while Grafana is away.
    """

    name = "grafana"

    def __init__(self, grafana: Grafana, dashboard: str = "", patience: Patience = Patience()) -> None:  # noqa: B008 - frozen
        self._grafana, self._dashboard = grafana, dashboard
        self._delivery: Delivery[Rollout] = Delivery("annotations in Grafana", self._write, patience)

    @property
    def failures(self) -> int:
        """Attempts that have failed, and annotations that were lost."""
        return self._delivery.failures

    async def take(self, change: Change) -> None:
        """Let the rollout wait for its turn, where a dashboard would show the change."""
        if change.rollout is not None and change.kind in _TOLD:
            self._delivery.put(change.rollout.id, change.rollout)

    async def close(self) -> None:
        """Write what is left, within a few seconds."""
        await self._delivery.close()
        await self._grafana.aclose()

    async def _write(self, rollout: Rollout) -> Attempt:
        try:
            await self._grafana.put(annotation_of(rollout, self._dashboard))
        except GrafanaError as error:
            # A token that is mended, or a right that is given, lets in what waits.
            is_later = error.is_passing or error.is_unauthorized
            return Attempt(
                Outcome.LATER if is_later else Outcome.REFUSED, f"{error}", after_seconds=error.after_seconds
            )
        except ConfigurationError as error:
            return Attempt(Outcome.REFUSED, f"{rollout.id}: {error}")
        return Attempt(Outcome.TAKEN)
