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
_TEXT: Final = 50
"""Columns of a signal's line that are not its two bars."""
_NARROW: Final = 60
"""Terminals with fewer columns would wrap what is redrawn in place; they get plain lines."""
_SPEAKS_NATS: Final = 0.5
"""Less evidence than this against a canary is nothing to look at while one waits."""
_QUIET_SECONDS: Final = 5.0
"""Plain progress lines are this far apart."""
_AGAIN_SECONDS: Final = 60.0
"""What holds promotion is said again when it comes back after so long."""
_KIND_WORDS: Final = 4
"""So many words of a sentence, numbers left out, tell what kind of sentence it is."""


def painter(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Paint:
    """Return what colours text for `stream`: nothing unless it is a terminal that wants colour.

    Source: https://no-color.org
    """
    if not stream.isatty() or environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return lambda text, style: text
    return lambda text, style: f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if style in _COLOURS else text


def progress(stream: TextIO, deadline_seconds: float, ends: str = "decided within") -> Live | Plain:
    """Return the progress display that suits `stream`.

    Args:
        stream: where it is shown.
        deadline_seconds: when it is over.
        ends: what happens then, before the time.
    """
    moves = stream.isatty() and os.environ.get("TERM") != "dumb"
    wide = shutil.get_terminal_size().columns >= _NARROW
    return Live(stream, deadline_seconds, ends) if moves and wide else Plain(stream)


class Plain:
    """One line every few seconds, and one whenever something new holds promotion."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: float | None = None
        self._said: dict[tuple[str, ...], float] = {}

    def __call__(self, look: Look) -> None:
        """Show `look`, or nothing if there is nothing new."""
        now = look.elapsed_seconds
        if self._last is None or now - self._last >= _QUIET_SECONDS:
            self._last = now
            shown = "; ".join(map(_short, _metrics(look.verdict)))
            self._print(f"{_requests(look)}{' | ' if shown else ''}{shown}")
        for word, texts in (("hold", _holds(look.verdict)), ("note", look.notes)):
            for text in texts:
                kind = _kind(text)
                if now - self._said.get(kind, -_AGAIN_SECONDS) >= _AGAIN_SECONDS:
                    self._print(f"  {word}: {text}")
                self._said[kind] = now

    def close(self) -> None:
        """Nothing is left on the screen."""

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class Live:
    """A few lines, redrawn in place after each reading, and wiped at the end."""

    def __init__(self, stream: TextIO, deadline_seconds: float, ends: str = "decided within") -> None:
        self._stream = stream
        self._end = f"{ends} {deadline_seconds:.0f} s"
        self._paint = painter(stream)
        self._drawn = 0

    def __call__(self, look: Look) -> None:
        """Redraw."""
        width = shutil.get_terminal_size().columns - 1
        lines = [f"{_requests(look)}, {self._end}"[:width]]
        cells = min(_CELLS, (width - _TEXT) // 2)
        lines += [self._metric(metric, cells) for metric in _metrics(look.verdict)]
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

    def _metric(self, metric: MetricVerdict, cells: int) -> str:
        from rolloutobs.analysis.report import bar

        against, proof = _gauges(metric)
        parts = [f"  {metric.signal:<12.12}"]
        for name, style, evidence in (("against", "bad", against), ("for", "good", proof)):
            if evidence is not None:
                nats, threshold = evidence
                reached = "strong" if nats >= threshold else "faint"
                drawn = self._paint(bar(nats / threshold, cells), style)
                parts.append(f"{name} {drawn} {self._paint(f'{_of(nats, threshold):>9}', reached)}")
        return "  ".join(parts)


def _requests(look: Look) -> str:
    canary, stable = (f"{look.traffic.get(track, 0):,}" for track in ("canary", "stable"))
    if look.canary_seconds is None:
        return (
            f"{look.elapsed_seconds:.0f} s: waiting for the canary's first request, stable {stable} requests"
        )
    return f"{look.canary_seconds:.0f} s: canary {canary}, stable {stable} requests"


def _kind(text: str) -> tuple[str, ...]:
    """Return what stays the same of a sentence while its numbers grow and its route changes."""
    return tuple(re.sub(r"\b\d[\d.,]*x?\b", "", text).split()[:_KIND_WORDS])


def _metrics(verdict: Verdict | None) -> list[MetricVerdict]:
    """Return the signals that are compared and worth a look: those that promotion waits for, and those that
    something speaks against."""
    metrics = verdict.metrics if verdict is not None else ()
    seen = [m for m in metrics if m.total.canary_exposures and m.total.stable_exposures]
    return [m for m in seen if m.required or _speaks_against(m)]


def _speaks_against(metric: MetricVerdict) -> bool:
    from rolloutobs.analysis.model import Side

    return any(e.nats >= _SPEAKS_NATS for e in metric.evidence if e.side is not Side.PROMOTE)


def _holds(verdict: Verdict | None) -> tuple[str, ...]:
    """Return what holds promotion; nothing once it is decided."""
    return verdict.holds if verdict is not None and verdict.decision.value == "hold" else ()


def _gauges(metric: MetricVerdict) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return (nats, threshold) against and for the canary."""
    from rolloutobs.analysis.model import Side
    from rolloutobs.analysis.report import strongest

    found = []
    for sides in ((Side.ROLLBACK, Side.GUARD, Side.HOLD), (Side.PROMOTE,)):
        evidence = strongest(metric.evidence, sides)
        found.append(None if evidence is None else (evidence.nats, evidence.threshold))
    return found[0], found[1]


def _short(metric: MetricVerdict) -> str:
    against, proof = _gauges(metric)
    texts = [
        f"{_of(*gauge)} {word}" for word, gauge in (("against", against), ("for", proof)) if gauge is not None
    ]
    return f"{metric.signal} {', '.join(texts)}"


def _of(nats: float, threshold: float) -> str:
    return f"{max(nats, 0.0):.1f}/{threshold:.1f}"
