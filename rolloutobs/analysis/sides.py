"""Which series are the canary's and which stable's, where no label ``track`` says so. Pure.

Belongs here: rules from labels to a track: two selectors, two versions, or the newest version against the
rest. The rest of the analysis looks at the label ``track`` only, so a rule is a rewriting of labels.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from rolloutobs import semconv
from rolloutobs.analysis.counters import START_TIMES, Need
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.tally import CANARY, STABLE
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track

__all__ = [
    "AS_EXPOSED",
    "BySelector",
    "ByVersion",
    "Matcher",
    "NewestVersion",
    "Shape",
    "Sides",
    "Summable",
    "parse_selector",
]

# Source: https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
_MATCHER: Final = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')

_EXPOSED: Final = f"exported_{semconv.LABEL_TRACK}"
"""Where a rule keeps the track that was exposed. Source: Prometheus, ``honor_labels``."""


_NEGATED: Final = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}

Apart = tuple[str, str]
"""Conditions, as in PromQL, of the series that are read one by one, the canary's among them, and of those of
stable that may be added up; no series satisfies both."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label, as in PromQL: a label that is missing is the empty string."""

    label: str
    operator: str
    """``=``, ``!=``, ``=~`` or ``!~`` (anchored regular expressions)."""
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether `labels` satisfy it."""
        found = labels.get(self.label, "")
        equal = found == self.value if "~" not in self.operator else bool(re.fullmatch(self.value, found))
        return equal is not self.operator.startswith("!")

    @property
    def negated(self) -> Matcher:
        """The condition that holds where this one does not."""
        return replace(self, operator=_NEGATED[self.operator])

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{json.dumps(self.value, ensure_ascii=False)}"


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Return the conditions of ``{app="shop",pod=~"shop-canary-.*"}``; the braces may be left out.

    Raises:
        ConfigurationError: `text` is no such selector, or has no condition.
    """
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    found, at = [], 0
    while at < len(inner.rstrip()):
        match = _MATCHER.match(inner, at)
        if match is None:
            break
        found.append(_matcher(match[1], match[2], match[3], text))
        at = match.end()
    if not found or inner[at:].strip():
        raise ConfigurationError(f"{text!r} is not a selector; use for example '{{pod=~\"shop-canary-.*\"}}'")
    return tuple(found)


def _matcher(label: str, operator: str, value: str, text: str) -> Matcher:
    try:
        plain: str = json.loads(f'"{value}"')
        if "~" in operator:
            re.compile(plain)
    except (ValueError, re.error) as error:
        raise ConfigurationError(f"{label} in {text!r} cannot be used: {error}") from None
    return Matcher(label, operator, plain)


class Sides(Protocol):
    """A rule that gives series their track."""

    def applied(self, reading: Reading) -> Reading:
        """Return `reading` with the label ``track`` on every series that is on a side, and on no other."""

    def selectors(self) -> Sequence[str]:
        """Return conditions, as in PromQL, of which every wanted series satisfies one; none: any series."""

    def apart(self) -> Apart | None:
        """Return what tells the sides apart before any series is known; ``None``: nothing does."""


class _Ruled(ABC):
    """Rewrites labels, and remembers how: the same mapping is rewritten once while it is in use."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Mapping[str, str], Mapping[str, str]]] = {}

    @abstractmethod
    def track(self, labels: Mapping[str, str]) -> str:
        """Return the track of a series, or the empty string."""

    def applied(self, reading: Reading) -> Reading:
        seen: dict[int, tuple[Mapping[str, str], Mapping[str, str]]] = {}
        targets = {
            name: tuple(replace(s, labels=self._relabelled(s.labels, seen)) for s in samples)
            for name, samples in reading.targets.items()
        }
        self._known = seen
        return replace(reading, targets=targets)

    def _relabelled(
        self, labels: Mapping[str, str], seen: dict[int, tuple[Mapping[str, str], Mapping[str, str]]]
    ) -> Mapping[str, str]:
        known = self._known.get(id(labels))
        if known is None or known[0] is not labels:
            known = (labels, self._written(labels))
        seen[id(labels)] = known
        return known[1]

    def _written(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        others = {name: value for name, value in labels.items() if name != semconv.LABEL_TRACK}
        exposed = labels.get(semconv.LABEL_TRACK)
        if exposed:
            # A process whose track changed exposes its counters under both; they must not become one series.
            others[_EXPOSED] = exposed
        track = self.track(labels)
        return {**others, semconv.LABEL_TRACK: track} if track else others


class BySelector(_Ruled):
    """The canary is what one selector matches, stable what the other does; the canary's comes first.

    Args:
        canary: conditions of the canary's series.
        stable: conditions of stable's.
    """

    def __init__(self, canary: Sequence[Matcher], stable: Sequence[Matcher]) -> None:
        super().__init__()
        self._rules = ((CANARY, tuple(canary)), (STABLE, tuple(stable)))

    def track(self, labels: Mapping[str, str]) -> str:
        """Return the first side whose conditions all hold."""
        for side, matchers in self._rules:
            if all(matcher.matches(labels) for matcher in matchers):
                return side
        return ""

    def selectors(self) -> Sequence[str]:
        """Return both."""
        return tuple(",".join(map(str, matchers)) for _, matchers in self._rules)

    def apart(self) -> Apart | None:
        """Return both, stable's without the canary's; ``None`` where one selector cannot say that."""
        (_, canary), (_, stable) = self._rules
        equal = {m.label: m.value for m in stable if m.operator == "="}
        excluded = any(m.operator == "=" and equal.get(m.label, m.value) != m.value for m in canary)
        if not excluded and len(canary) > 1:
            return None
        alone = stable if excluded else (*stable, canary[0].negated)
        return ",".join(map(str, canary)), ",".join(map(str, alone))


class ByVersion(_Ruled):
    """The canary is one version, stable another or every other one: a plain rolling update.

    Args:
        canary: value of the label ``version``; empty: there is none yet.
        stable: the same; empty: every other version.

    Raises:
        ConfigurationError: both are the same version.
    """

    def __init__(self, canary: str, stable: str = "") -> None:
        super().__init__()
        if canary and canary == stable:
            raise ConfigurationError(f"canary and stable are both version {canary!r}; name two versions")
        self._canary, self._stable = canary, stable

    def track(self, labels: Mapping[str, str]) -> str:
        """Return the side of the series's version."""
        version = labels.get(semconv.LABEL_VERSION, "")
        if not version:
            return ""
        if version == self._canary:
            return CANARY
        return STABLE if version == (self._stable or version) else ""

    def selectors(self) -> Sequence[str]:
        """Any version, unless both are named."""
        if not self._stable:
            return (str(Matcher(semconv.LABEL_VERSION, "!=", "")),)
        return tuple(str(Matcher(semconv.LABEL_VERSION, "=", v)) for v in (self._canary, self._stable))

    def apart(self) -> Apart | None:
        """Return both versions; ``None`` while there is no canary."""
        if not self._canary:
            return None
        canary = Matcher(semconv.LABEL_VERSION, "=", self._canary)
        others = (canary.negated, Matcher(semconv.LABEL_VERSION, "!=", ""))
        stable = (Matcher(semconv.LABEL_VERSION, "=", self._stable),) if self._stable else others
        return str(canary), ",".join(map(str, stable))


class NewestVersion:
    """The canary is the version whose first process began last; alone, a version is stable.

    A version's age is the start of the oldest of its processes, for an old version's pod may restart at any
    time. Once a second version has been seen, the canary stays the canary.
    """

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._versions: set[str] = set()
        self._rule = ByVersion("")

    def applied(self, reading: Reading) -> Reading:
        """Return `reading` with tracks.

        Raises:
            ConfigurationError: there are several versions, and no start times tell which one is newest.
        """
        if len(self._versions) < 2:
            self._look(reading)
        return self._rule.applied(reading)

    def selectors(self) -> Sequence[str]:
        """Any version."""
        return (str(Matcher(semconv.LABEL_VERSION, "!=", "")),)

    def apart(self) -> Apart | None:
        """Return ``None``: which version is newest is seen in the series."""
        return None

    def _look(self, reading: Reading) -> None:
        before = len(self._versions)
        for samples in reading.targets.values():
            for sample in samples:
                self._note(sample)
        if len(self._versions) == before:
            return
        if len(self._versions) == 1:
            return
        unknown = self._versions - self._began.keys()
        if unknown:
            raise ConfigurationError(
                f"nothing tells when versions {', '.join(sorted(unknown))} began ({START_TIMES[0]}); name "
                "the canary with --canary-version"
            )
        self._rule = ByVersion(max(self._versions, key=lambda version: self._began[version]))

    def _note(self, sample: Sample) -> None:
        version = sample.labels.get(semconv.LABEL_VERSION, "")
        if not version:
            return
        if sample.name not in START_TIMES:
            self._versions.add(version)
        elif sample.value > 0:
            self._began[version] = min(sample.value, self._began.get(version, math.inf))


_BY_TRACK: Final[Apart] = (
    str(Matcher(semconv.LABEL_TRACK, "=~", f"{CANARY}|{Track.BASELINE.value}")),
    str(Matcher(semconv.LABEL_TRACK, "=", STABLE)),
)
"""The baseline is as small as the canary, and its processes are compared by their age."""


@dataclass(frozen=True, slots=True)
class Summable:
    """What a source may add up over the processes of stable, where it can do that exactly."""

    needs: Sequence[Need]
    """`Ticker.needs`."""
    processes: int = 25
    """From how many processes of stable on; fewer are read one by one."""
    settle_seconds: float = 10.0
    """How long ago the moment is that is read: a scrape is stored with the time at which it began, and may
    take until its timeout. Source:
    https://prometheus.io/docs/prometheus/latest/configuration/configuration/ (scrape_timeout, 10 s)."""
    scrape_seconds: float = 150.0
    """How far the last scrape before a moment may be away: two and a half of the longest usual interval."""
    compared: int = 20
    """Of so many processes it is read how much they differ."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Which series of a source are read, and how they become what the analysis reads."""

    app: str = ""
    """Only series with this label ``app``; empty: all."""
    sides: Sides | None = None
    """``None``: the label ``track`` says it."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Seconds per unit of ``le``, by name of the bucket metric: 0.001 for milliseconds."""
    summable: Summable | None = None
    """``None``: every process is read by itself."""
    where: Sequence[Matcher] = ()
    """Further conditions that every series of a Prometheus has to satisfy: its namespace. Processes that are
    scraped do not know theirs, and are not asked."""

    @property
    def common(self) -> str:
        """Return the conditions on all series, as in PromQL; none: the empty string."""
        app = (Matcher(semconv.LABEL_APP, "=", self.app),) if self.app else ()
        return ",".join(map(str, (*app, *self.where)))

    def applied(self, reading: Reading) -> Reading:
        """Return `reading` with tracks, and with bounds in seconds."""
        sided = reading if self.sides is None else self.sides.applied(reading)
        if not self.factors:
            return sided
        targets = {
            name: tuple(replace(s, labels=_scaled(s.name, s.labels, self.factors)) for s in samples)
            for name, samples in sided.targets.items()
        }
        return replace(sided, targets=targets)

    def of_stable(self, name: str, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Return the labels of a sum over stable's series of the metric `name` as the analysis reads them."""
        sided = labels if self.sides is None else {**labels, semconv.LABEL_TRACK: STABLE}
        return _scaled(name, sided, self.factors)

    def apart(self) -> Apart | None:
        """Return what tells the sides apart in PromQL; ``None``: nothing does before the series are
        known."""
        return _BY_TRACK if self.sides is None else self.sides.apart()

    def selectors(self) -> Sequence[str]:
        """Return conditions of which every wanted series satisfies one, as in PromQL; none: any series."""
        return () if self.sides is None else self.sides.selectors()


AS_EXPOSED: Final = Shape()
"""All series, as they are."""


def _scaled(name: str, labels: Mapping[str, str], factors: Mapping[str, float]) -> Mapping[str, str]:
    factor, le = factors.get(name), labels.get("le")
    if factor is None or le is None:
        return labels
    try:
        bound = float(le) * factor
    except ValueError:
        return labels
    # 12 digits: 0.3, not 0.30000000000000004, is what both tracks' bounds are called.
    return {**labels, "le": f"{bound:.12g}"}
