"""Metrics of a job that ends, left with a Prometheus Pushgateway.

The job's group there is named by its service, its name and its track, and not by its version or its pod. So
there are as many groups as there are jobs, whatever is released; each push replaces the whole group, and with
it what an older version has left. A version that was promoted takes its canary's group away.

A run counts from zero, and Prometheus sees a rate only where counters go up from run to run. So each push
adds to what the group's earlier runs of the same version have left. Two runs of one job at the same time need
names of their own (`Settings.push_instance`), or one's counts can be lost."""

from __future__ import annotations

import os
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit
from weakref import WeakKeyDictionary

from prometheus_client import delete_from_gateway, push_to_gateway
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from rolloutobs import semconv
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Identity, Track
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.generations import ADDITIVE
from rolloutobs.telemetry.hub import Hub

__all__ = ["push_at_end", "push_metrics"]

PUSH_SECONDS = 5.0
"""At most this long each request to the gateway may take: a job's end waits for it."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A gateway that has more is not read, and the push is lost, counted."""
_JOB, _INSTANCE = "job", "instance"
Key = tuple[str, frozenset[tuple[str, str]]]
"""Name and labels of a sample, without those of the group."""


@dataclass(frozen=True, slots=True)
class _Gateway:
    """Where to push."""

    url: str
    """With a scheme, without credentials."""
    authorization: str = ""
    """Value of the header; empty: none."""

    @classmethod
    def parse(cls, text: str) -> _Gateway:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"Pushgateway is {_without_password(text)!r}; use an address such as http://pushgateway:9091"
            )
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        if parts.username is None:
            return cls(plain)
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        return cls(plain, f"Basic {b64encode(pair).decode('ascii')}")

    def handler(
        self, url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        """Return what sends a request, in the shape that prometheus_client asks for."""

        def send() -> None:
            self._request(url, method, timeout, dict(headers), data)

        return send

    def read(self) -> list[Metric]:
        """Return all metrics of the gateway."""
        body = self._request(f"{self.url}/metrics", "GET", PUSH_SECONDS, {"Accept": "text/plain"}, None)
        return list(text_string_to_metric_families(body.decode("utf-8", "replace")))

    def _request(
        self, url: str, method: str, timeout: float | None, headers: dict[str, str], data: bytes | None
    ) -> bytes:
        # The scheme has been checked in `parse`.
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
        if self.authorization:
            request.add_header("Authorization", self.authorization)
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            body: bytes = answer.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise OSError(f"the Pushgateway has more than {MAX_ANSWER_BYTES} bytes of metrics")
        return body


def _without_password(text: str) -> str:
    return text.rpartition("@")[2]


class _Ready(Collector):
    """Metrics that are ready, in the shape of a registry."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


class _Pushes:
    """The pushes of this process."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may push in the middle of a push.
        self.lock = threading.RLock()
        self.added: dict[tuple[str, str, str], dict[Key, float]] = {}
        """By gateway, job and instance: what this process has added there so far."""

    def forked(self) -> None:
        """Start over in a process that was just forked: it counts from zero, and what is there is its
        parent's. The thread that may have held the lock does not exist here.
        """
        self.lock = threading.RLock()
        self.added = {}


_pushes = _Pushes()
_first_jobs: WeakKeyDictionary[Hub, str] = WeakKeyDictionary()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pushes.forked)


def push_metrics(gateway: str | None = None, *, instance: str | None = None, hub: Hub | None = None) -> None:
    """Push every metric of this process to a Prometheus Pushgateway, stamped with app, version and track.

    For a job that ends, or a cron job; ``operation("job", ...)`` calls it at the end of a run where
    ``ROLLOUTOBS_PUSHGATEWAY`` is set. What goes on running is scraped instead (`serve_metrics`). Counts add
    up over the runs of one version; everything else is that of this run. The group is ``job=<service>``,
    ``instance=<instance>[/<track>]``; scrape the gateway with ``honor_labels: true``.

    Args:
        gateway: address of the gateway, ``http://user:password@pushgateway:9091``; ``None``: that of
            ``ROLLOUTOBS_PUSHGATEWAY``.
        instance: what tells this job from the others of the service; ``None``: ``ROLLOUTOBS_PUSH_INSTANCE``,
            else ``default``.
        hub: whose metrics; ``None``: those of the process.

    Raises:
        ConfigurationError: there is no gateway, or its address cannot be used.
        OSError: the gateway cannot be reached, or does not accept the metrics.
    """
    who = hub or hubs.process()
    address = gateway or who.settings.pushgateway
    if not address:
        raise ConfigurationError(
            "push_metrics() needs the address of a Pushgateway, or ROLLOUTOBS_PUSHGATEWAY"
        )
    with _pushes.lock:
        _push(_Gateway.parse(address), instance or who.settings.push_instance or "default", who)


def _push(gateway: _Gateway, instance: str, hub: Hub) -> None:
    identity = hub.live.stamp.identity
    group = _group(instance, identity.track)
    own = list(text_string_to_metric_families(hub.render().body.decode("utf-8")))
    there = gateway.read()
    where = (gateway.url, identity.service, group)
    counts = _counts(own)
    before = _pushes.added.get(where, {})
    earlier = dict(_left_there(there, identity, group))
    push_to_gateway(
        gateway.url,
        identity.service,
        _Ready(_added(own, earlier, before)),
        {_INSTANCE: group},
        PUSH_SECONDS,
        gateway.handler,
    )
    _pushes.added[where] = counts
    _remove_promoted(gateway, there, identity, instance)


def _group(instance: str, track: Track) -> str:
    return f"{instance}/{track.value}" if track else instance


def _key(sample: Sample) -> Key:
    pairs = frozenset((k, v) for k, v in sample.labels.items() if v and k not in (_JOB, _INSTANCE))
    return sample.name, pairs


def _counts(metrics: Iterable[Metric]) -> dict[Key, float]:
    return {_key(s): s.value for metric in metrics if metric.type in ADDITIVE for s in metric.samples}


def _left_there(
    there: Iterable[Metric], identity: Identity, group: str
) -> Iterator[tuple[Key, tuple[Metric, Sample]]]:
    """Yield the counts that earlier runs of this version have left in the group."""
    for metric in there:
        if metric.type not in ADDITIVE:
            continue
        for sample in metric.samples:
            labels = sample.labels
            if (
                labels.get(_JOB) == identity.service
                and labels.get(_INSTANCE) == group
                and labels.get(semconv.LABEL_VERSION) == identity.version
            ):
                yield _key(sample), (metric, sample)


def _added(
    own: Iterable[Metric], earlier: dict[Key, tuple[Metric, Sample]], before: dict[Key, float]
) -> Iterator[Metric]:
    """Yield `own` with the counts of `earlier` added; `before` is the part of it that this process has
    pushed."""
    metrics: dict[str, Metric] = {}
    for metric in own:
        metrics[metric.name] = metric
        if metric.type not in ADDITIVE:
            continue
        samples = []
        for sample in metric.samples:
            key = _key(sample)
            left = earlier.pop(key, None)
            value = sample.value
            if left is not None:
                value += max(0.0, left[1].value - before.get(key, 0.0))
            samples.append(sample._replace(value=value))
        metric.samples = samples
    for was, sample in earlier.values():
        # What this run has not counted is not to vanish, and start over in the next one.
        kept = metrics.setdefault(was.name, Metric(was.name, was.documentation, was.type, was.unit))
        labels = {k: v for k, v in sample.labels.items() if k not in (_JOB, _INSTANCE)}
        kept.samples.append(sample._replace(labels=labels))
    yield from metrics.values()


def _remove_promoted(gateway: _Gateway, there: Iterable[Metric], identity: Identity, instance: str) -> None:
    """Delete the groups that this version has left on other tracks: nobody will ever push there again."""
    others = {_group(instance, track) for track in Track if track is not identity.track}
    stale = {
        sample.labels[_INSTANCE]
        for metric in there
        for sample in metric.samples
        if sample.labels.get(_JOB) == identity.service
        and sample.labels.get(_INSTANCE) in others
        and sample.labels.get(semconv.LABEL_VERSION) == identity.version
        and sample.labels.get(semconv.LABEL_APP) == identity.service
    }
    for group in sorted(stale):
        delete_from_gateway(gateway.url, identity.service, {_INSTANCE: group}, PUSH_SECONDS, gateway.handler)


def push_at_end(hub: Hub, name: str) -> None:
    """Push where the settings name a Pushgateway, after a job has ended; a push that is lost is counted.

    Args:
        hub: whose metrics.
        name: of the job; names the group where the settings do not.
    """
    if not hub.settings.pushgateway:
        return
    try:
        # Always the same group: the counts of this process must not be in two.
        push_metrics(instance=hub.settings.push_instance or _first_jobs.setdefault(hub, name), hub=hub)
    except Exception as error:
        hub.failures.record(Where.PUSH, error)
