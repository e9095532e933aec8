"""The app's own prometheus_client metrics, of all workers.

Where the app has set up that library's own multi-process mode (``PROMETHEUS_MULTIPROC_DIR``), its files are
exact and are read. Where it has not, and several workers share a folder, each worker writes what its
registry holds into a file of its own: every 5 seconds (less often where that would take more than 1 % of a
core), whenever it answers a scrape, and at its end. So what other workers have counted is up to 5 seconds
late, and a worker that is killed (SIGKILL) loses its last seconds.

Counters, histograms and summaries are summed, those of workers that have ended included. A gauge is shown for
each worker, with a label ``pid``, unless its ``multiprocess_mode`` says how to make one of them. The
collectors that every registry begins with (memory, garbage collection) are left out, as that library leaves
them out: ``app_process_*`` has the sum.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, multiprocess, values
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

__all__ = [
    "APP",
    "CollectorError",
    "Published",
    "additive",
    "has_own_metrics",
    "is_multiprocess",
    "is_registered",
    "mark_dead",
    "merged",
    "multiprocess_metrics",
    "own_metrics",
    "read",
]

APP = ".app"
"""End of the name of the file of one worker."""
ADDITIVE = frozenset({"counter", "histogram", "summary", "gaugehistogram"})
LABEL_PID = "pid"
_DEFAULTS = (
    prometheus_client.PROCESS_COLLECTOR,
    prometheus_client.PLATFORM_COLLECTOR,
    prometheus_client.GC_COLLECTOR,
)
_SAME_EVERYWHERE = frozenset({"info"})
"""Types of which the workers' values are the same."""
Labels = tuple[tuple[str, str], ...]
SampleKey = tuple[str, Labels]
_MERGE: dict[str, Callable[[float, float], float]] = {
    "sum": lambda a, b: a + b,
    "max": max,
    "min": min,
    # Workers come oldest first.
    "mostrecent": lambda a, b: b,
}


@dataclass(slots=True)
class Family:
    """One metric with its samples."""

    documentation: str
    type: str
    unit: str
    mode: str = "all"
    """Of gauges: prometheus_client's ``multiprocess_mode``, without ``live``."""
    samples: dict[SampleKey, float] = field(default_factory=dict)
    exemplars: dict[SampleKey, list[Any]] = field(default_factory=dict)
    """Labels, value and Unix time in seconds (or ``None``)."""

    def metric(self, name: str) -> Metric:
        """Return it in prometheus_client's shape."""
        metric = Metric(name, self.documentation, self.type, self.unit)
        for key, value in self.samples.items():
            found = self.exemplars.get(key)
            exemplar = None if found is None else Exemplar(*found)
            metric.samples.append(Sample(key[0], dict(key[1]), value, None, exemplar))
        return metric


@dataclass(slots=True)
class Published:
    """What the registry of one worker held, or the sum of several."""

    at: float = 0.0
    """Unix time in seconds."""
    pid: int = 0
    families: dict[str, Family] = field(default_factory=dict)

    def as_json(self) -> Any:
        """Return it as lists, for `from_json`."""
        families = [
            [
                name,
                [f.documentation, f.type, f.unit, f.mode],
                [[key[0], key[1], value, f.exemplars.get(key)] for key, value in f.samples.items()],
            ]
            for name, f in self.families.items()
        ]
        return {"at": self.at, "pid": self.pid, "families": families}

    @classmethod
    def from_json(cls, content: Any) -> Published | None:
        """Return what `as_json` has made; ``None`` where it is something else."""
        try:
            published = cls(float(content["at"]), int(content["pid"]))
            for name, (documentation, kind, unit, mode), samples in content["families"]:
                family = published.families[name] = Family(documentation, kind, unit, mode)
                for sample, pairs, value, exemplar in samples:
                    key = (sample, tuple((str(label), str(text)) for label, text in pairs))
                    family.samples[key] = float(value)
                    if exemplar:
                        family.exemplars[key] = exemplar
        except (KeyError, ValueError, TypeError, AttributeError):
            return None
        return published

    @classmethod
    def of(cls, metrics: Iterable[Metric], modes: dict[str, str], at: float) -> Published:
        """Return the values that `metrics` have now, without ``_created``."""
        published = cls(at, os.getpid())
        for metric in metrics:
            mode = modes.get(metric.name, "all")
            family = Family(metric.documentation, metric.type, metric.unit, mode)
            published.families[metric.name] = family
            created = metric.name + "_created" if metric.type in ADDITIVE else ""
            for sample in metric.samples:
                if sample.name == created:
                    continue
                key = (sample.name, tuple(sorted(sample.labels.items())))
                family.samples[key] = float(sample.value)
                if sample.exemplar is not None:
                    family.exemplars[key] = list(sample.exemplar)
        return published

    def since(self, before: Published | None) -> Published:
        """Return what was added since `before`; what cannot be added is as it is."""
        if before is None:
            return self
        rest = Published(self.at, self.pid)
        for name, family in self.families.items():
            old = before.families.get(name)
            if old is None or family.type not in ADDITIVE:
                rest.families[name] = family
                continue
            samples = {
                # What is less was started over.
                key: value - old.samples.get(key, 0.0) if value >= old.samples.get(key, 0.0) else value
                for key, value in family.samples.items()
            }
            rest.families[name] = replace(family, samples=samples)
        return rest

    def as_bytes(self) -> bytes:
        """Return the content of a file for `read`."""
        return json.dumps(self.as_json(), separators=(",", ":")).encode()


def read(path: Path) -> Published | None:
    """Return what a worker has published; ``None`` where it has not, or the file is damaged."""
    try:
        return Published.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def additive(several: Iterable[Published]) -> Published:
    """Return the sum of what can be added."""
    total = Published()
    for published in several:
        total.at = max(total.at, published.at)
        for name, family in published.families.items():
            if family.type in ADDITIVE:
                _add(total, name, family)
    return total


def merged(alive: Iterable[Published], gone: Iterable[Published]) -> Iterator[Metric]:
    """Yield the metrics of all workers; of those that are `gone`, only what can be added."""
    workers = sorted(alive, key=lambda published: published.at)
    total = additive([*workers, *gone])
    for worker in workers:
        for name, family in worker.families.items():
            if family.type not in ADDITIVE:
                _show(total, name, family, worker.pid)
    for name, family in total.families.items():
        yield family.metric(name)


def _target(total: Published, name: str, family: Family) -> Family | None:
    made = Family(family.documentation, family.type, family.unit, family.mode)
    target = total.families.setdefault(name, made)
    # A worker that defines it otherwise is left out, as it would be if both were in one process.
    return target if target.type == family.type else None


def _add(total: Published, name: str, family: Family) -> None:
    target = _target(total, name, family)
    if target is None:
        return
    for key, value in family.samples.items():
        target.samples[key] = target.samples.get(key, 0.0) + value
    for key, exemplar in family.exemplars.items():
        mine = target.exemplars.get(key)
        if mine is None or (mine[2] or 0.0) < (exemplar[2] or 0.0):
            target.exemplars[key] = exemplar


def _show(total: Published, name: str, family: Family, pid: int) -> None:
    target = _target(total, name, family)
    if target is None:
        return
    merge = _MERGE.get(family.mode)
    for key, value in family.samples.items():
        if family.type in _SAME_EVERYWHERE:
            target.samples[key] = value
        elif merge is None:
            target.samples[key[0], (*key[1], (LABEL_PID, str(pid)))] = value
        else:
            target.samples[key] = merge(target.samples[key], value) if key in target.samples else value


def is_multiprocess() -> bool:
    """Return whether prometheus_client keeps its values in files: decided when it was imported."""
    return getattr(values.ValueClass, "__name__", "") == "MmapedValue"


def multiprocess_metrics() -> list[Metric]:
    """Return the app's metrics as prometheus_client's own multi-process mode has them."""
    return list(multiprocess.MultiProcessCollector(CollectorRegistry()).collect())  # type: ignore[no-untyped-call]


def mark_dead(pid: int) -> None:
    """Tell prometheus_client's multi-process mode, where it is in use, that a worker has ended."""
    if not is_multiprocess():
        return
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
    except OSError:
        pass


def has_own_metrics(registry: CollectorRegistry) -> bool:
    """Return whether the app has registered something."""
    return bool(_collectors(registry))


class CollectorError(Exception):
    """A collector of the app has raised."""


def own_metrics(
    registry: CollectorRegistry,
    report: Callable[[CollectorError], None] = lambda error: None,
    before: Published | None = None,
) -> Published:
    """Return what the app has registered has counted in this process.

    Args:
        registry: of the app.
        report: told of each collector that raises.
        before: what this returned the last time; what is missing because a collector has raised stays as it
            was there, as a counter that is gone for one scrape would go backwards in the sum of all workers.
    """
    metrics: list[Metric] = []
    modes: dict[str, str] = {}
    is_whole = True
    for collector in _collectors(registry):
        try:
            collected = list(collector.collect())
        except Exception as error:
            is_whole = False
            report(_told(collector, error))
            continue
        mode = str(getattr(collector, "_multiprocess_mode", "all")).removeprefix("live") or "all"
        modes.update((metric.name, mode) for metric in collected)
        metrics.extend(collected)
    published = Published.of(metrics, modes, time.time())
    if before is not None and not is_whole:
        published.families = {**before.families, **published.families}
    return published


def _told(collector: Any, error: Exception) -> CollectorError:
    told = CollectorError(f"{type(collector).__qualname__} of the app has raised {error!r}")
    told.__cause__ = error
    return told


def _collectors(registry: CollectorRegistry) -> list[Any]:
    known = getattr(registry, "_collector_to_names", None)
    if known is None:
        # A later prometheus_client: all of it then, the default collectors included.
        return [registry]
    return [found for found in list(known) if not any(found is default for default in _DEFAULTS)]


def is_registered(registry: CollectorRegistry, collector: Any) -> bool:
    """Return whether `collector` is in `registry`; of registries of later releases, ``False``."""
    return collector in getattr(registry, "_collector_to_names", {})
