"""Which metrics an expression asks for, and which there are."""

from __future__ import annotations

import re
from typing import Final

from rolloutobs import foreign, semconv

_SUFFIXES: Final = ("_bucket", "_count", "_sum")
_PROMQL: Final = {
    "sum", "by", "group", "rate", "or", "and", "on", "unless", "max", "min", "avg", "count", "time", "sqrt",
    "group_left", "histogram_quantile", "increase", "label_replace", "avg_over_time", "min_over_time",
    "max_over_time", "sum_over_time", "last_over_time",
    "quantile_over_time", "offset", "topk", "scalar", "clamp_min",
}  # fmt: skip


def exposed() -> set[str]:
    """Return every metric that the code, kube-state-metrics, cAdvisor and Prometheus itself expose."""
    names = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    names |= foreign.NAMES | {"ALERTS"}
    return names | {f"{name}{suffix}" for name in names for suffix in _SUFFIXES}


def metrics_of(expression: str) -> set[str]:
    """Return the metrics in an expression: words that are neither labels, strings, nor PromQL's own."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", "", text)
    text = re.sub(r"\b(by|on|group_left) \([^)]*\)", "", text)
    return set(re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*", text)) - _PROMQL
