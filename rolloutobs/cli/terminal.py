"""Colour and progress on a terminal; plain lines everywhere else."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rolloutobs.analysis.gate import Look
    from rolloutobs.analysis.model import MetricVerdict, Verdict
    from rolloutobs.analysis.report import Paint

__all__ = ["Live", "Plain", "painter", "progress"]

_COLOURS: Final[Mapping[str, str]] = {
    "good": "32",
    "bad": "31",
    "undecided": "33",
    # The report's orange and blue, from the 256-colour palette.
    "canary": "38;5;208",
    "stable": "38;5;39",
    "faint": "2",
    "strong": "1",
}
_CELLS: Final = 12
_QUIET_SECONDS: Final = 5.0
"""Plain progress lines are at least this far apart, unless something changed."""


def painter(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Paint:
    """Return what colours text for `stream`: nothing unless it is a terminal that wants colour.

    Source: https://no-color.org
    """
    if not stream.isatty() or environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return lambda text, style: text
    return lambda text, style: f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if style in _COLOURS else text


def progress(stream: TextIO, deadline_seconds: float) -> Live | Plain:
    """Return the progress display that suits `stream`."""
    moves = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Live(stream, deadline_seconds) if moves else Plain(stream, deadline_seconds)


class Plain:
    """One line every few seconds, and whenever the safety checks that hold promotion change."""

    def __init__(self, stream: TextIO, deadline_seconds: float) -> None:
        self._stream = stream
        self._deadline_seconds = deadline_seconds
        self._last: float | None = None
        self._said: set[str] = set()

    def __call__(self, look: Look) -> None:
        """Show `look`, or nothing if there is nothing new."""
        texts = {_without_numbers(text): text for text in (*_holds(look.verdict), *look.notes)}
        changed = set(texts) != self._said
        if self._last is None or changed or look.elapsed_seconds - self._last >= _QUIET_SECONDS:
            self._last = look.elapsed_seconds
            self._print(
                _headline(look, self._deadline_seconds) + "".join(map(_short, _metrics(look.verdict)))
            )
        if changed:
            for kind, text in texts.items():
                if kind not in self._said:
                    self._print(f"  - {text}")
            self._said = set(texts)

    def close(self) -> None:
        """Nothing is left on the screen."""

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class Live:
    """A few lines, redrawn in place after each reading, and wiped at the end."""

    def __init__(self, stream: TextIO, deadline_seconds: float) -> None:
        self._stream = stream
        self._deadline_seconds = deadline_seconds
        self._paint = painter(stream)
        self._drawn = 0

    def __call__(self, look: Look) -> None:
        """Redraw."""
        width = shutil.get_terminal_size().columns - 1
        lines = [_headline(look, self._deadline_seconds)[:width]]
        lines += [self._metric(metric) for metric in _metrics(look.verdict)]
        texts = (*_holds(look.verdict), *look.notes)
        lines += [self._paint(f"  - {text}"[:width], "undecided") for text in texts[:4]]
        self.close()
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """Wipe what was drawn."""
        if self._drawn:
            # Cursor up n lines, to the first column; erase to the end of the screen. Source: ECMA-48, CPL and
            # ED.
            self._stream.write(f"\x1b[{self._drawn}F\x1b[0J")
            self._stream.flush()
            self._drawn = 0

    def _metric(self, metric: MetricVerdict) -> str:
        from rolloutobs.analysis.report import bar

        against, proof = _gauges(metric)
        parts = [f"  {metric.signal:<12.12}"]
        for name, style, evidence in (("against", "bad", against), ("for", "good", proof)):
            if evidence is not None:
                nats, threshold = evidence
                reached = "strong" if nats >= threshold else "faint"
                drawn = self._paint(bar(nats / threshold, _CELLS), style)
                parts.append(f"{name} {drawn} {self._paint(f'{nats:5.1f}/{threshold:<4.1f}', reached)}")
        return "  ".join(parts)


def _headline(look: Look, deadline_seconds: float) -> str:
    counts = f"canary {look.traffic.get('canary', 0):,} stable {look.traffic.get('stable', 0):,} requests"
    if look.canary_seconds is None:
        return f"{look.elapsed_seconds:.0f} s, waiting for the canary's first request: {counts}"
    return f"{look.canary_seconds:.0f} s of {deadline_seconds:.0f} s: {counts}"


def _without_numbers(text: str) -> str:
    """Return what stays the same of a sentence while its numbers grow."""
    return re.sub(r"\b\d[\d.,]*x?\b", "", text)


def _metrics(verdict: Verdict | None) -> list[MetricVerdict]:
    """Return the signals that have been seen at all."""
    metrics = verdict.metrics if verdict is not None else ()
    return [m for m in metrics if m.total.canary_exposures or m.total.stable_exposures]


def _holds(verdict: Verdict | None) -> tuple[str, ...]:
    """Return what holds promotion; nothing once it is decided."""
    return verdict.holds if verdict is not None and verdict.decision.value == "hold" else ()


def _gauges(metric: MetricVerdict) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return (nats, threshold) against and for the canary."""
    from rolloutobs.analysis.model import Side
    from rolloutobs.analysis.report import strongest

    found = []
    for sides in ((Side.ROLLBACK, Side.GUARD), (Side.PROMOTE,)):
        evidence = strongest(metric.evidence, sides)
        found.append(None if evidence is None else (evidence.nats, evidence.threshold))
    return found[0], found[1]


def _short(metric: MetricVerdict) -> str:
    against, proof = _gauges(metric)
    texts = [
        f"{word} {nats:.1f}/{threshold:.1f}"
        for word, (nats, threshold) in (("against", against or (0.0, 0.0)), ("for", proof or (0.0, 0.0)))
        if threshold
    ]
    return f" | {metric.signal}: {' '.join(texts)}"
