"""How a load's results are told: a table for people, plain data for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synthetic.load.results import LoadVerdict, TrackLoad

__all__ = ["load_as_dict", "load_text"]

_QUANTILES = (0.5, 0.95, 0.99)


def _name(load: TrackLoad) -> str:
    return "users" if load.target is None else load.target.track.value


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def load_text(loads: Sequence[TrackLoad], verdict: LoadVerdict | None) -> str:
    """Return the loads as a table with a line per track, the commonest errors, and the verdict if there is
    one."""
    lines = [f"{'track':<9}{'version':<13}{'requests':>9}{'failed':>9}{'p50':>10}{'p95':>10}{'p99':>10}"]
    for load in loads:
        times = "".join(f"{_time(load.percentile_seconds(share)):>10}" for share in _QUANTILES)
        lines.append(f"{_name(load):<9}{load.version or '-':<13}{load.requests:>9}{load.failures:>9}{times}")
    for load in loads:
        worst = sorted(load.errors.items(), key=lambda each: -each[1])[:3]
        lines += [f"  {_name(load)}: {count} x {text}" for text, count in worst]
    if any(load.stopped for load in loads):
        lines.append("stopped before its time was up")
    if verdict is not None:
        lines.append(f"=> {verdict.code.name.lower()}: {verdict.reason}")
    return "\n".join(lines)


def load_as_dict(app: str, loads: Sequence[TrackLoad], verdict: LoadVerdict | None) -> dict[str, Any]:
    """Return the loads as plain data; times in seconds."""
    return {
        "app": app,
        "exit_code": None if verdict is None else int(verdict.code),
        "result": None if verdict is None else verdict.code.name.lower(),
        "reason": "" if verdict is None else verdict.reason,
        "tracks": {_name(load): _track_as_dict(load) for load in loads},
    }


def _track_as_dict(load: TrackLoad) -> dict[str, Any]:
    return {
        "version": load.version,
        "requests": load.requests,
        "failures": load.failures,
        **{f"p{share * 100:g}_seconds": load.percentile_seconds(share) for share in _QUANTILES},
        "identity": dict(load.proven),
        "errors": dict(load.errors),
        "stopped": load.stopped,
        "endpoints": [
            {"method": each.method, "name": each.name, "requests": each.requests, "failures": each.failures}
            for each in load.endpoints
        ],
    }
