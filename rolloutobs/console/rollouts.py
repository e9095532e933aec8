"""Where one rollout ends and the next begins, by what a controller and people say. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rolloutobs.console.model import Rollout, Seen
from rolloutobs.console.standing import Hook

__all__ = ["ENDS", "begun", "ended", "is_another"]

ENDS: Final = frozenset({"Succeeded", "Failed", "Terminated"})
"""Flagger's phases after which nothing follows. Source:
https://github.com/fluxcd/flagger/blob/main/pkg/apis/flagger/v1beta1/status.go"""

_BEFORE: Final = frozenset({Hook.CONFIRM_ROLLOUT, Hook.PRE_ROLLOUT})
"""Called before the canary has any traffic: what has been seen of one by then is of another rollout."""


def is_another(rollout: Rollout, seen: Seen | None, id_: str, hook: Hook | None = None) -> bool:
    """Tell whether a caller that names its rollout `id_` speaks of another one than `rollout`.

    Args:
        rollout: the one that is watched.
        seen: the last look at it.
        id_: empty: the caller does not say.
        hook: the webhook, if it is one.
    """
    if id_ and rollout.id and id_ != rollout.id:
        return True
    is_before = hook in _BEFORE
    if rollout.phase and (is_before or (id_ and not rollout.id)):
        return True
    if not id_ or rollout.id:
        return False
    exposures = seen.report.verdict.requests.canary_exposures if seen else 0.0
    return exposures > 0 and (is_before or not (seen is not None and seen.has_canary))


def begun(last: Rollout, at: float, why: str, id_: str = "") -> Rollout:
    """Return the rollout after `last`, which knows nothing of it."""
    return Rollout(last.number + 1, at, why, id_)


def ended(rollout: Rollout, phase: str, id_: str) -> Rollout:
    """Return `rollout` with its end, where `phase` is one and speaks of it."""
    if phase not in ENDS or (id_ and rollout.id and id_ != rollout.id):
        return rollout
    return replace(rollout, phase=phase)
