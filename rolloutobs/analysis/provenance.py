"""Where each default of the policy comes from. Data, printed by ``rolloutobs policy show``.

Belongs here: one short reason or place per setting; a name in double quotes is a paragraph of
docs/verdict.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["SOURCES", "source_of"]

_PAST: Final = 'simulated: "Stable against its own past"'
_SHARE: Final = 'simulated: "The share of the traffic"'
_RESOURCES: Final = 'by judgement, wide: "Memory and CPU"'
_WORDS: Final = "words of the sentence"
_SERIES: Final = "names of the series"

SOURCES: Final[Mapping[str, str]] = {
    "traffic": "every request is in it",
    "alpha": 'a bound, yours to choose: "Rollback"',
    "promote_alpha": 'a bound, yours to choose: "What it says"',
    "guard_weight": 'simulated split .45/.45/.10: "Rollback"',
    "warmup_seconds": 'simulated cold start of 60 s: "What you should know"',
    "minimum_seconds": 'simulated: "What to expect"',
    "deadline_seconds": 'simulated: "What to expect"',
    "tick_seconds": 'simulated: "Ticks"',
    "phi_seconds": 'simulated: "Staying honest"',
    "clip_nats": 'simulated: "Ticks"',
    "clip_refill": 'clip_nats in one tick: "Ticks"',
    "restart_seconds": 'Shin, Ramdas, Rinaldo 2023; simulated: "Ticks"',
    "strata_limit": 'simulated, 20 hides a broken route: "Strata"',
    "stratum_minimum": 'simulated: "Strata"',
    "exceedance_low": 'simulated: "Strata"',
    "exceedance_high": 'simulated: "Strata"',
    "hold_evidence": 'simulated, 5 to 20 differ little: "What holds a promotion"',
    "assume_independent": 'false is the honest one: "What holds a promotion"',
    "real_users": 'anyone can post: "Signed views"',
    "strata_labels": 'none is known to exist: "Confounded rollouts"',
    "past.minimum_seconds": _PAST,
    "past.block_seconds": _PAST,
    "past.windows_seconds": _PAST,
    "past.after_seconds": _PAST,
    "past.hold_seconds": _PAST,
    "past.ratio": _PAST,
    "past.difference": _PAST,
    "past.evidence": 'P <= 1/20 a look: "Stable against its own past"',
    "past.limit_events": _PAST,
    "share.weight": "your router knows it",
    "share.on_silence": _SHARE,
    "share.hold_factor": _SHARE,
    "share.hold_evidence": 'P <= 1/20: "The share of the traffic"',
    "share.rollback_factor": _SHARE,
    "share.rollback_evidence": 'P <= 1/100: "The share of the traffic"',
    "share.rollback_after_seconds": _SHARE,
    "share.silence_seconds": "a window for words only",
    "share.lag_seconds": '60 s of lag and a tick: "The share of the traffic"',
    "share.restart_seconds": _SHARE,
    "resources.on_failure": 'few processes prove nothing: "Memory and CPU"',
    "resources.memory_ratio": _RESOURCES,
    "resources.memory_difference_bytes": _RESOURCES,
    "resources.cpu_ratio": _RESOURCES,
    "resources.cpu_difference_cores": _RESOURCES,
    "resources.memory_limit_bytes": "your deployment knows it",
    "resources.horizon_seconds": _RESOURCES,
    "resources.minimum_seconds": _RESOURCES,
    "signals.*.title": _WORDS,
    "signals.*.kind": "what the series are",
    "signals.*.exposures": _SERIES,
    "signals.*.events": _SERIES,
    "signals.*.sources": _SERIES,
    "signals.*.strata": 'what differs by itself: "Strata"',
    "signals.*.phrase": _WORDS,
    "signals.*.everywhere": _WORDS,
    "signals.*.unit": _WORDS,
    "signals.*.weight": 'by how much it sees: "Rollback"',
    "signals.*.tolerance_ratio": 'pods differ, measure yours by calibrate: "What you should know"',
    "signals.*.tolerance_difference": 'a service without errors may have some: "The e-value"',
    "signals.*.margin_ratio": 'simulated: "What it says"',
    "signals.*.margin_difference": 'simulated: "The e-value"',
    "signals.*.guard_ratio": 'simulated, a cold start of 3 % never trips it: "What you should know"',
    "signals.*.guard_difference": 'simulated: "What you should know"',
    "signals.*.absolute_limit": 'simulated: "What holds a promotion"',
    "signals.*.required": 'servers yes, others no: "What holds a promotion"',
    "signals.*.on_failure": 'what can be proven may roll back: "Settings"',
    "signals.*.from_browsers": "by the name of the metric",
    "signals.*.bounds": "https://web.dev/articles/vitals, and neighbours",
    "signals.*.bound_unit": "seconds, but for layout shifts",
    "signals.*.lag_seconds": '60 where events come late: "Events that come late"',
    "signals.*.past": 'where a shared dependency shows: "Stable against its own past"',
}
"""By dotted path; ``*`` is the name of any signal."""


def source_of(path: str) -> str | None:
    """Return where the default at `path` comes from; ``None``: it is part of what has one."""
    parts = path.split(".")
    if parts[0] == "signals" and len(parts) > 2:
        parts[1] = "*"
    return SOURCES.get(".".join(parts))
