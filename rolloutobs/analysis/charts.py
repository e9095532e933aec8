"""Static SVG plots, drawn with CSS classes so that the page's theme colours them. Pure.

Belongs here: axes, lines, steps, bars. Does not belong here: what they show (`figures`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["Axis", "Plot", "linear_axis", "log_axis"]

_LEFT: Final = 52.0
_RIGHT: Final = 62.0
_TOP: Final = 12.0
_BOTTOM: Final = 34.0
_CHAR: Final = 6.2
"""Mean width of a character at the plots' font size, in pixels."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values and where its ticks are. `log`: positions follow the logarithm, the range is above
    0."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str = ""
    log: bool = False

    def share(self, value: float) -> float:
        """Return where `value` lies between low (0) and high (1); values outside are put on the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(
    values: Iterable[float],
    show: Callable[[float], str],
    label: str = "",
    *,
    tight: bool = False,
    most: int = 5,
) -> Axis:
    """Return an axis over `values` with round ticks.

    Args:
        values: what must be inside; those that are not finite do not count.
        show: words for a tick.
        label: what the axis measures.
        tight: end where the values end; else at the next tick, and 0 is included.
        most: about how many ticks.
    """
    found = [v for v in values if math.isfinite(v)] + ([] if tight else [0.0])
    low, high = min(found, default=0.0), max(found, default=1.0)
    if high <= low:
        high = low + 1.0
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(i * step, show(i * step)) for i in range(first, last + 1)]
    if tight:
        return Axis(low, high, tuple(t for t in ticks if low <= t[0] <= high), label)
    return Axis(first * step, last * step, tuple(ticks), label)


def log_axis(low: float, high: float, show: Callable[[float], str], label: str = "") -> Axis:
    """Return a logarithmic axis with ticks at 1, 2 and 5 of each decade (only 1 when there are many)."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 3 else (1, 3)
    places = (m * 10.0**d for d in decades for m in factors)
    return Axis(low, high, tuple((v, show(v)) for v in places if low <= v <= high), label, log=True)


class Plot:
    """One plot: draw in it, then take `svg`."""

    def __init__(self, x: Axis, y: Axis, title: str, *, width: float = 520, height: float = 230) -> None:
        self._x, self._y = x, y
        self._title = title
        self._width, self._height = width, height
        self._back: list[str] = []
        self._front: list[str] = []
        self._marks: list[float] = []
        self._ends: list[tuple[float, str, str]] = []
        self._grid()

    # --- drawing --------------------------------------------------------------------------------------------

    def line(self, points: Sequence[tuple[float, float | None]], css: str, label: str = "") -> None:
        """Draw a line through `points`; ``None`` breaks it. `label` is written at its right end."""
        runs: list[list[str]] = [[]]
        last: float | None = None
        for x, y in points:
            if y is None or math.isnan(y):
                runs.append([])
                continue
            runs[-1].append(f"{self._px(x):.1f},{self._py(y):.1f}")
            last = y
        for run in runs:
            if len(run) == 1:
                cx, cy = run[0].split(",")
                self._front.append(f'<circle class="dot {css}" cx="{cx}" cy="{cy}" r="2"/>')
            elif run:
                self._front.append(f'<polyline class="line {css}" points="{" ".join(run)}"/>')
        if label and last is not None:
            self._ends.append((self._py(last), label, css))

    def steps(self, edges: Sequence[float], heights: Sequence[float], css: str, label: str = "") -> None:
        """Draw a filled outline: `heights[i]` between `edges[i]` and ``edges[i + 1]``."""
        base = self._py(self._y.low)
        path = [f"M{self._px(edges[0]):.1f},{base:.1f}"]
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            y = self._py(height)
            path.append(f"L{self._px(left):.1f},{y:.1f}L{self._px(right):.1f},{y:.1f}")
        path.append(f"L{self._px(edges[-1]):.1f},{base:.1f}")
        name = f"<title>{escape(label)}</title>" if label else ""
        self._front.append(f'<path class="steps {css}" d="{"".join(path)}">{name}</path>')

    def across(self, value: float, label: str, css: str) -> None:
        """Draw a dashed horizontal line with its label at its left end, or right where another is near."""
        y = self._py(value)
        crowded = any(abs(y - other) < 12 for other in self._marks)
        self._marks.append(y)
        x, anchor = (self._width - _RIGHT - 4, "end") if crowded else (_LEFT + 4, "start")
        self._front.append(
            f'<line class="mark {css}" x1="{_LEFT}" x2="{self._width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="note {css}" x="{x}" y="{y - 4:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        )

    def down(self, value: float, label: str, css: str) -> None:
        """Draw a dashed vertical line with its label at the top."""
        x = self._px(value)
        width = len(label) * _CHAR
        anchor, dx = ("end", -4) if x + width + 8 > self._width - _RIGHT else ("start", 4)
        self._front.append(
            f'<line class="mark {css}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{self._height - _BOTTOM}"/>'
            f'<text class="note {css}" x="{x + dx:.1f}" y="{_TOP + 9}" text-anchor="{anchor}">'
            f"{escape(label)}</text>"
        )

    def shade(self, low: float, high: float, css: str) -> None:
        """Shade a range of x."""
        left, right = self._px(low), self._px(high)
        if right > left:
            self._back.append(
                f'<rect class="shade {css}" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
                f'height="{self._height - _TOP - _BOTTOM}"/>'
            )

    def svg(self) -> str:
        """Return the plot; its title is for those who do not see it."""
        body = "".join([*self._back, *self._front, *self._labels()])
        return (
            f'<svg class="plot" viewBox="0 0 {self._width:g} {self._height:g}" role="img" '
            f'aria-label="{escape(self._title, quote=True)}">{body}</svg>'
        )

    # --- places ---------------------------------------------------------------------------------------------

    def _px(self, value: float) -> float:
        return _LEFT + self._x.share(value) * (self._width - _LEFT - _RIGHT)

    def _py(self, value: float) -> float:
        bottom = self._height - _BOTTOM
        return bottom - self._y.share(value) * (bottom - _TOP)

    def _grid(self) -> None:
        right, bottom = self._width - _RIGHT, self._height - _BOTTOM
        for value, label in self._y.ticks:
            y = self._py(value)
            self._back.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._back.append(
                f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{escape(label)}</text>"
            )
        for value, label in self._x.ticks:
            x = self._px(value)
            self._back.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
            )
            self._back.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
                f"{escape(label)}</text>"
            )
        self._back.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        middle = (_LEFT + right) / 2
        self._back.append(
            f'<text class="name" x="{middle}" y="{self._height - 4}" text-anchor="middle">'
            f"{escape(self._x.label)}</text>"
        )

    def _labels(self) -> list[str]:
        """Return the labels of the lines at their right ends, moved apart where they would overlap."""
        lowest = self._height - _BOTTOM
        ends = sorted(self._ends)
        places = [y + 3.5 for y, _, _ in ends]
        for i in range(len(places) - 1, -1, -1):
            below = places[i + 1] - 12 if i + 1 < len(places) else lowest
            places[i] = min(places[i], below)
        for i in range(len(places)):
            above = places[i - 1] + 12 if i else _TOP + 4
            places[i] = max(places[i], above)
        x = self._width - _RIGHT + 5
        return [
            f'<text class="end {css}" x="{x}" y="{y:.1f}">{escape(label)}</text>'
            for y, (_, label, css) in zip(places, ends, strict=True)
        ]
