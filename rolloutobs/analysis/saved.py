"""What a gate must know to go on where another one ended, as plain data for JSON and back. Pure.

Belongs here: the form of the state file but for the engine's own part, which is the engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rolloutobs.analysis.history import History, Moment
from rolloutobs.analysis.model import HistogramPair, PairCount, Side, Stratum
from rolloutobs.errors import StateError

__all__ = ["FORMAT", "Saved", "from_mapping", "to_mapping"]

FORMAT: Final = 1
"""Goes up with every change that files written before do not fit."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A gate after one of its looks."""

    app: str
    began: float
    """Unix seconds."""
    at: float
    """Unix seconds of the last reading that was taken in."""
    zero: float | None
    """Unix seconds at which the canary first took traffic; ``None``: not yet."""
    canary_version: str
    """Empty: not known yet. A state of another version is not of this rollout."""
    engine: Mapping[str, Any]
    """What `Engine.state` returned."""
    decision: str
    """Of the verdict at that look; empty: there was none yet."""
    stable_version: str = ""
    """Empty: not known yet."""
    acted: Sequence[str] = ()
    """Decisions that commands have been run for: they run once."""
    traffic: Mapping[str, int] = field(default_factory=dict)
    history: History = field(default_factory=History)


def to_mapping(saved: Saved) -> dict[str, Any]:
    """Return `saved` as what ``json.dumps`` takes; infinite numbers are Python's ``Infinity``."""
    history = saved.history
    return {
        "gate": FORMAT,
        "app": saved.app,
        "began": saved.began,
        "at": saved.at,
        "zero": saved.zero,
        "canary_version": saved.canary_version,
        "stable_version": saved.stable_version,
        "decision": saved.decision,
        "acted": list(saved.acted),
        "traffic": dict(saved.traffic),
        "engine": saved.engine,
        "moments": [_moment(each) for each in history.moments],
        "strata": _nested(history.strata, _pair),
        "histograms": _nested(history.histograms, _histogram),
        "displays": {
            name: [[list(key), count] for key, count in counts.items()]
            for name, counts in history.displays.items()
        },
        "texts": dict(history.texts),
    }


def from_mapping(plain: object) -> Saved:
    """Return what `to_mapping` was given.

    Raises:
        StateError: `plain` is of another format, or damaged.
    """
    if not isinstance(plain, Mapping) or plain.get("gate") != FORMAT:
        found = plain.get("gate") if isinstance(plain, Mapping) else None
        raise StateError(f"its format is {found!r}, this version writes {FORMAT}")
    try:
        return _read(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"it is damaged ({type(error).__name__}: {error})") from None


def _read(plain: Mapping[str, Any]) -> Saved:
    history = History(
        moments=tuple(_read_moment(each) for each in plain["moments"]),
        strata=_read_nested(plain["strata"], lambda each: PairCount(*each)),
        histograms=_read_nested(plain["histograms"], lambda each: HistogramPair(*map(tuple, each))),
        displays={
            name: {tuple(key): int(count) for key, count in counts}
            for name, counts in plain["displays"].items()
        },
        texts=dict(plain["texts"]),
    )
    return Saved(
        app=str(plain["app"]),
        began=float(plain["began"]),
        at=float(plain["at"]),
        zero=None if plain["zero"] is None else float(plain["zero"]),
        canary_version=str(plain["canary_version"]),
        stable_version=str(plain.get("stable_version", "")),
        engine=dict(plain["engine"]),
        decision=str(plain["decision"]),
        acted=tuple(plain["acted"]),
        traffic={side: int(count) for side, count in plain["traffic"].items()},
        history=history,
    )


def _pair(pair: PairCount) -> list[float]:
    return [pair.canary_events, pair.canary_exposures, pair.stable_events, pair.stable_exposures]


def _histogram(pair: HistogramPair) -> list[list[float]]:
    return [list(pair.bounds), list(pair.canary), list(pair.stable)]


def _nested(found: Mapping[str, Mapping[Stratum, Any]], write: Any) -> dict[str, Any]:
    return {name: [[key, write(each)] for key, each in strata.items()] for name, strata in found.items()}


def _read_nested(found: Mapping[str, Any], read: Any) -> dict[str, dict[Stratum, Any]]:
    return {
        name: {tuple((str(label), str(value)) for label, value in key): read(each) for key, each in strata}
        for name, strata in found.items()
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "start": moment.start,
        "end": moment.end,
        "counts": {name: _pair(pair) for name, pair in moment.counts.items()},
        "evidence": {
            name: {side.value: nats for side, nats in sides.items()}
            for name, sides in moment.evidence.items()
        },
        "stale": sorted(moment.stale),
    }


def _read_moment(plain: Mapping[str, Any]) -> Moment:
    return Moment(
        start=float(plain["start"]),
        end=float(plain["end"]),
        counts={name: PairCount(*pair) for name, pair in plain["counts"].items()},
        evidence={
            name: {Side(side): float(nats) for side, nats in sides.items()}
            for name, sides in plain["evidence"].items()
        },
        stale=frozenset(plain["stale"]),
    )
