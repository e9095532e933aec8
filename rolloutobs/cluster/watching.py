"""The watcher: readers, the state that they feed, and the sinks that hear of what changes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from rolloutobs.cluster._http import Api
from rolloutobs.cluster.figures import families
from rolloutobs.cluster.journal import Journal
from rolloutobs.cluster.model import Change, CountedSink, Sink
from rolloutobs.cluster.reading import Pace, Reader
from rolloutobs.cluster.resources import RESOURCES, Kind
from rolloutobs.cluster.serving import Answer
from rolloutobs.cluster.state import State
from rolloutobs.cluster.upkeep import own_families

__all__ = ["BACKFILL_SECONDS", "Clocks", "Watcher"]

_LOG: Final = logging.getLogger("rolloutobs.cluster")
BACKFILL_SECONDS: Final = 3600.0
"""For so long an API server keeps events. Source: kube-apiserver, ``--event-ttl``."""
_QUEUE: Final = 10_000
"""Changes that wait for the sinks; beyond it they are lost, and counted."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both in seconds."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Watcher:
    """Reads a cluster and tells sinks what changes.

    Args:
        api: of the cluster.
        namespaces: to watch; none: all.
        journal: keeps changes; the first of the sinks.
        sinks: those besides.
        pace: how long to wait for what.
        clocks: the time.
    """

    def __init__(
        self,
        api: Api,
        namespaces: Sequence[str] = (),
        journal: Journal | None = None,
        sinks: Sequence[Sink] = (),
        pace: Pace = Pace(),  # noqa: B008 - frozen
        clocks: Clocks = Clocks(),
    ) -> None:
        self.state = State()
        self.journal = journal or Journal()
        self.state.noted_start = self.journal.started
        self.has_begun = asyncio.Event()
        """Set once the first lists are there and the past has been told."""
        self._sinks: tuple[Sink, ...] = (self.journal, *sinks)
        self._clocks, self._pace = clocks, pace
        self._queue: asyncio.Queue[Change] = asyncio.Queue()
        self.told: Counter[str] = Counter()
        """Changes by kind."""
        self._lost: Counter[str] = Counter()
        self.readers = [
            Reader(api, resource, namespace, self, pace, clocks.monotonic)
            for resource in RESOURCES
            for namespace in (namespaces or ("",))
        ]
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(self._metrics))

    # --- running ----------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Watch until cancelled; then give the sinks what is left."""
        tasks = [asyncio.create_task(reader.run()) for reader in self.readers]
        tasks += [asyncio.create_task(self._begin()), asyncio.create_task(self._settle())]
        teller = asyncio.create_task(self._tell())
        try:
            # None of them ends by itself but `_begin`; an error in any of them is one of ours and ends all.
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hear(self.state.settle(is_end=True))
            await self._close(teller)

    async def _begin(self) -> None:
        required = [r.settled.wait() for r in self.readers if r.resource.is_required]
        others = [asyncio.ensure_future(r.settled.wait()) for r in self.readers if not r.resource.is_required]
        await asyncio.gather(*required)
        # A conversion webhook that fails for ever must not keep everything else from being watched.
        await asyncio.wait(others, timeout=self._pace.optional_seconds)
        for waiting in others:
            waiting.cancel()
        sets = [r for r in self.readers if r.resource.kind is Kind.REPLICA_SET]
        self.state.knows_sets = not any(reader.problem for reader in sets)
        for change in self._worth_telling(self.state.begin()):
            # There may be more of the past than may wait: an hour of a large cluster's events.
            if self._queue.qsize() >= _QUEUE // 2:
                await self._queue.join()
            self._hear([change])
        self.has_begun.set()

    async def _settle(self) -> None:
        while True:
            await asyncio.sleep(self._pace.settle_seconds)
            self._hear(self.state.settle())

    def _worth_telling(self, past: list[Change]) -> Iterator[Change]:
        """Yield what of the past is of the last hour and has not been told by a watcher before this one.

        All of a rollout or nothing: whoever heard of its beginning may have ended since. Events are all told.
        """
        oldest = self._clocks.wall() - BACKFILL_SECONDS
        rollouts = [(c, c.rollout) for c in past if c.event is None and c.rollout is not None]
        over = {rollout.id for _, rollout in rollouts if rollout.ended is not None}
        news = {
            rollout.id
            for change, rollout in rollouts
            if change.time >= oldest and not self.journal.is_known(change.key)
        }
        told = {rollout.id for _, rollout in rollouts} - (over - news)
        # In their order: an event of a rollout whose beginning was not told yet is of none to a sink.
        for change in past:
            if change.event is not None or (change.rollout is not None and change.rollout.id in told):
                yield change

    async def _close(self, teller: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(self._pace.sink_seconds):
                await self._queue.join()
        except TimeoutError:
            _LOG.warning("%d changes were not told before the end", self._queue.qsize())
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)
        # At the same time: each waits for a server of its own, which may be away.
        await asyncio.gather(*(self._guarded(sink, sink.close()) for sink in self._sinks))

    async def _tell(self) -> None:
        while True:
            change = await self._queue.get()
            for sink in self._sinks:
                await self._guarded(sink, sink.take(change))
            self._queue.task_done()

    async def _guarded(self, sink: Sink, doing: Any) -> None:
        """Wait for a sink; that it raises or hangs, against its promise, must not stop the others."""
        name = type(sink).__name__
        try:
            async with asyncio.timeout(self._pace.sink_seconds):
                await doing
        except Exception:
            if not self._lost[name]:
                _LOG.exception("the sink %s has failed; this is said once", name)
            self._lost[name] += 1

    # --- what the readers give --------------------------------------------------------------------------
    def apply(self, kind: Kind, word: str, plain: Mapping[str, Any]) -> None:
        """Take one object."""
        self._hear(self.state.apply(kind, word, plain))

    def retain(self, kind: Kind, uids: Set[str], namespace: str) -> None:
        """Forget what a full list did not have."""
        self._hear(self.state.retain(kind, uids, namespace))

    def _hear(self, changes: Iterable[Change]) -> None:
        for change in changes:
            is_old = change.event is not None and self.journal.is_known(change.key)
            if is_old:
                continue
            if self._queue.qsize() >= _QUEUE:
                self._lost["queue"] += 1
                continue
            self.told[change.kind.value] += 1
            self._queue.put_nowait(change)

    # --- what it shows ----------------------------------------------------------------------------------
    def answer(self, path: str, query: Mapping[str, str]) -> Answer:
        """Return what is shown under `path`.

        Raises:
            ValueError: the query is wrong.
        """
        if path == "/metrics":
            return Answer(generate_latest(self._registry), CONTENT_TYPE_LATEST)
        if path in ("/healthz", "/readyz"):
            problems = self.silences() if path == "/healthz" else [*self.problems(), *self.silences()]
            text = "; ".join(problems) or "ok"
            return Answer(f"{text}\n".encode(), status="503 Service Unavailable" if problems else "200 OK")
        if path == "/v1/events":
            found = self.journal.find(
                query.get("namespace", ""),
                query.get("workload", ""),
                _seconds(query.get("since", "0")),
                int(query.get("limit", "1000")),
            )
            return Answer(json.dumps(found).encode(), "application/json")
        return Answer(b"there are /metrics, /healthz and /v1/events\n", status="404 Not Found")

    def problems(self) -> list[str]:
        """Return why this watcher cannot be relied on, in sentences; none: it can."""
        found = [r.problem for r in self.readers if r.resource.is_required and r.problem]
        if not self.has_begun.is_set():
            found.append("the first lists are not complete")
        return list(dict.fromkeys(found))

    def silences(self) -> list[str]:
        """Return of what nothing was heard for so long that a new process may do better.

        One without rights, or with an API server that is away, is not among them: it waits.
        """
        patience = 2.0 * self._pace.watch_seconds + 2.0 * self._pace.most_seconds
        now = self._clocks.monotonic()
        required = (r for r in self.readers if r.resource.is_required and not r.problem)
        quiet = (r for r in required if now - r.heard > patience)
        return [f"nothing heard of {r.resource.plural} for {now - r.heard:.0f} s" for r in quiet]

    def _metrics(self) -> Iterator[Metric]:
        yield from families(self.state.workloads(), self._clocks.wall())
        failures = dict(self._lost) | {"journal": self.journal.failures}
        failures |= {sink.name: sink.failures for sink in self._sinks if isinstance(sink, CountedSink)}
        yield from own_families(self.readers, failures, self.told)


class _Collected:
    """What prometheus_client asks."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _seconds(text: str) -> float:
    """Return a time in seconds since the epoch; dashboards have milliseconds."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"since is {text!r}; use seconds or milliseconds since the epoch") from None
    # As seconds, this would be after the year 5000.
    return number / 1000.0 if number > 1e11 else number
