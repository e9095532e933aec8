"""Metrics of the same names from another instrumentation: which of the two is shown.

Settled at every scrape, by what is there at that moment: an instrumentator may be set up after us, and its
metrics may appear with its first request.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from prometheus_client.metrics_core import Metric

from rolloutobs.settings import OnConflict
from rolloutobs.telemetry.cells import Family
from rolloutobs.telemetry.metrics import exposed_names

__all__ = ["AppText", "Conflicts"]

_logger = logging.getLogger("rolloutobs")
_TYPE_LINE = re.compile(rb"^# TYPE (\S+) ", re.MULTILINE)
_OPENMETRICS = "application/openmetrics-text"


@dataclass(frozen=True, slots=True)
class AppText:
    """What the app's own ``/metrics`` has answered."""

    content_type: str
    body: bytes

    @property
    def is_metrics(self) -> bool:
        """Whether this is one of Prometheus's formats, and not a page for people at the same path."""
        kind, _, parameters = self.content_type.lower().partition(";")
        if kind.strip() == _OPENMETRICS:
            return True
        # prometheus_client names the version of the format; what is written by hand may not.
        return kind.strip() == "text/plain" and (
            "version=" in parameters or _TYPE_LINE.search(self.body) is not None
        )

    def beyond(self, known: Iterable[Metric]) -> list[Metric]:
        """Return the metrics that are not among `known`: those of a registry of the app's own.

        Raises:
            ValueError: the text is not what its content type says.
        """
        names = {name for metric in known for name in exposed_names(metric)}
        if all(name.decode("utf-8", "replace") in names for name in _TYPE_LINE.findall(self.body)):
            # The usual case, and a parser takes a hundred times as long.
            return []
        if self.content_type.lower().startswith(_OPENMETRICS):
            from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
        else:
            from prometheus_client.parser import text_string_to_metric_families as parse
        found = list(parse(self.body.decode("utf-8")))  # type: ignore[no-untyped-call]
        counted = {metric.name + "_created" for metric in found} | {name + "_created" for name in names}
        return [metric for metric in found if metric.name not in names | counted]


class Conflicts:
    """Settles which of two metrics of one name is shown; made once per app.

    With ``replace``, and for what the prefix does not reach with ``prefix``, ours are shown. With ``adopt``
    theirs are, from the first time they are seen: ours do not come back when a scrape happens to miss theirs,
    and go on counting for OTLP.
    """

    def __init__(self, rule: OnConflict) -> None:
        self._rule = rule
        self._told: set[str] = set()
        self._adopted: set[str] = set()

    def settle(
        self, ours: Sequence[Family[Any]], theirs: Sequence[Metric]
    ) -> tuple[list[Family[Any]], list[Metric]]:
        """Return what is shown of our families, and of the metrics of others."""
        if self._rule is OnConflict.ADOPT:
            self._adopted.update(_overlap(ours, theirs))
            return [family for family in ours if family.name not in self._adopted], list(theirs)
        if self._rule is OnConflict.REPLACE or self._rule is OnConflict.PREFIX:
            lost = set(_overlap(theirs, ours))
            self._tell(lost)
            return list(ours), [metric for metric in theirs if metric.name not in lost]
        assert_never(self._rule)

    def _tell(self, lost: set[str]) -> None:
        new = sorted(lost - self._told)
        if not new:
            return
        self._told.update(new)
        _logger.warning(
            "another instrumentation in this process exposes metrics of ours (%s): ours are shown, those are "
            "left out. Remove it, or set ROLLOUTOBS_ON_CONFLICT to 'adopt' (show those, stamped) or to "
            "'prefix' (show both)",
            ", ".join(new),
        )


def _overlap(losers: Iterable[Family[Any] | Metric], winners: Iterable[Family[Any] | Metric]) -> list[str]:
    taken = {name for item in winners for name in exposed_names(item)}
    return [item.name for item in losers if not taken.isdisjoint(exposed_names(item))]
