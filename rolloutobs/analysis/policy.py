"""The policy: which signals are compared, how much evidence decides, how long to wait. Data, no behaviour.

Belongs here: `Signal`, `Selector`, `Policy` and their validation from plain mappings. Reading files is `rolloutobs.cli`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """How a signal's numbers are read."""

    RATIO = "ratio"
    """events / exposures, both counters; more is worse (errors per request, JS errors per page view)."""
    LATENCY = "latency"
    """a classic histogram; each bucket bound gives exceedances / requests; more is worse."""
    CONVERSION = "conversion"
    """events / exposures where less is worse (checkouts per page view)."""
    PAIRS = "pairs"
    """failed / run synthetic checks, the same check against both tracks in the same tick; more is worse."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of one metric. Label values are exact; a value that starts with ``~`` is an anchored regular
    expression; the empty string selects series without the label, as in PromQL."""

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that is compared. For ``Kind.LATENCY`` `exposures` names the histogram (without suffix) and
    `events` is not used."""

    name: str
    title: str
    kind: Kind
    exposures: Selector
    events: Selector | None = None
    strata: tuple[str, ...] = ()
    """Labels that make a stratum, e.g. ``("method", "route")``."""
