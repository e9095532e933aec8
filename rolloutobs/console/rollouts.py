"""Where one rollout ends and the next begins, by what a controller and people say. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rolloutobs.console.model import Rollout, Seen
from rolloutobs.console.standing import Hook

__all__ = ["ENDS", "begun", "ended", "is_another", "is_stale", "replaced"]

ENDS: Final = frozenset({"Succeeded", "Failed", "Terminated"})
"""Flagger's phases after which nothing follows. Source:
https://github.com/fluxcd/flagger/blob/main/pkg/apis/flagger/v1beta1/status.go"""

_MOST_PAST: Final = 4
_STALE_SECONDS: Final = 600.0
"""Longer than a controller waits between two questions about its rollout."""
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
    """Return the rollout after `last`, which knows nothing of it but its name."""
    past = [each for each in (*last.past, last.id) if each and each != id_]
    return Rollout(last.number + 1, at, why, id_, past=tuple(past[-_MOST_PAST:]))


def is_stale(rollout: Rollout, id_: str, silent_seconds: float, hook: Hook | None = None) -> bool:
    """Tell whether a caller that names its rollout `id_` has not noticed that another one has begun.

    A template may be rolled out once more, and has the same id then; nobody asks about the other one by then.

    Args:
        rollout: the one that is watched.
        id_: one before it, maybe.
        silent_seconds: since when nobody has asked about `rollout` by its id.
        hook: the webhook, if it is one.
    """
    is_asked_about = bool(rollout.id) and silent_seconds < _STALE_SECONDS
    return id_ in rollout.past and is_asked_about and hook not in _BEFORE


def replaced(rollout: Rollout, id_: str) -> Rollout:
    """Return what is left to say of the rollout `id_`, whose place `rollout` has taken."""
    return Rollout(rollout.number, rollout.began, rollout.why, id_, f"replaced by {rollout.id or 'another'}")


def ended(rollout: Rollout, phase: str, id_: str) -> Rollout:
    """Return `rollout` with its end, where `phase` is one and speaks of it."""
    if phase not in ENDS or (id_ and rollout.id and id_ != rollout.id):
        return rollout
    return replace(rollout, phase=phase)
