"""The bake: what the gate does between a promotion and its own end.

The roles turn: the new version has the traffic, and is compared with the old pods that were kept. Its pods
may call themselves stable by now, so versions tell the sides wherever they differ.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace

from rolloutobs.analysis.gate import GateSettings, Look
from rolloutobs.analysis.model import Decision, Tick, Verdict
from rolloutobs.analysis.report import Report
from rolloutobs.cli.watching import Watch

__all__ = ["bake_of", "promoted", "sides_of"]


def bake_of(wanted: Watch, seconds: float, report: Report, kept: Sequence[Tick]) -> Watch:
    """Return what to watch after a promotion.

    Args:
        wanted: what was watched before it.
        seconds: for how long.
        report: of the promotion.
        kept: ticks of the rollout in unix seconds: what stable did in them is the past of the bake, and shows
            how clustered errors are.
    """
    policy = replace(wanted.policy.baking(), deadline_seconds=seconds)
    settings = GateSettings(report.app, wanted.settings.interval_seconds, seconds, only_rollback=True)
    return Watch(
        policy,
        settings,
        look_back_seconds=wanted.look_back_seconds,
        state=wanted.state,
        stable_past=tuple(kept),
        is_bake=True,
    )


def sides_of(arguments: Namespace, verdict: Verdict) -> Namespace:
    """Return the command line with the versions of `verdict` as sides, where it knows two."""
    canary, stable = verdict.canary_version, verdict.stable_version
    if not canary or not stable or canary == stable:
        return arguments
    found = Namespace(**vars(arguments))
    found.canary = found.stable = None
    found.by_version = False
    found.canary_version, found.stable_version = canary, stable
    return found


def promoted(observer: Callable[[Look], None]) -> Callable[[Look], None]:
    """Return an observer to whom the new version stays promoted for as long as nothing speaks against it."""

    def observe(look: Look) -> None:
        verdict = look.verdict
        if verdict is not None and verdict.decision is not Decision.ROLLBACK:
            look = replace(look, verdict=replace(verdict, decision=Decision.PROMOTE))
        observer(look)

    return observe
