"""Keeps up with one resource: lists it, watches it from there, and comes back after whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Set
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol

from rolloutobs.cluster._http import (
    OPENED,
    AbsentError,
    Api,
    BrokenError,
    BusyError,
    ExpiredError,
    ForbiddenError,
)
from rolloutobs.cluster.resources import Kind, Resource
from rolloutobs.errors import ClusterError

__all__ = ["Pace", "Reader", "Target", "read_once"]

_LOG: Final = logging.getLogger("rolloutobs.cluster")
_UNREADABLE: Final = (KeyError, TypeError, ValueError, AttributeError)
"""What `rolloutobs.cluster.objects` raises for an object that is none."""


_USEFUL: Final = 30.0
"""A watch that was open for this part of what it was asked for is not one that fails at once."""


class Target(Protocol):
    """What is read goes here."""

    def apply(self, kind: Kind, word: str, plain: Mapping[str, Any]) -> None:
        """Take one object; ``ADDED``, ``MODIFIED`` or ``DELETED``."""
        ...

    def retain(self, kind: Kind, uids: Set[str], namespace: str) -> None:
        """Forget what a full list did not have."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait for what, in seconds."""

    watch_seconds: float = 290.0
    """For which the server is asked to keep a watch open. A watch that has said nothing in that time, not
    even where it is, may be one that never will, and is begun again from a list.
    Source: client-go's reflector asks for 5 to 10 minutes; bookmarks come about once a minute."""
    first_seconds: float = 1.0
    """The longest first wait after a failure; it doubles each time, and each wait is a random part of it."""
    most_seconds: float = 30.0
    unreadable_seconds: float = 60.0
    """Until it is tried again whether a resource is there and may be read."""
    settle_seconds: float = 1.0
    """Between two rounds in which events that wait are told."""
    sink_seconds: float = 10.0
    """For a sink to take a change; twice that to tell and close all at the end, of the 30 that a pod has."""
    optional_seconds: float = 30.0
    """For the first lists of what is not required; after it, the rest begins without them."""

    def wait(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row.

        Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter")
        """
        return random.uniform(0.0, min(self.first_seconds * 2.0 ** min(failures - 1, 16), self.most_seconds))


async def read_once(api: Api, resource: Resource, namespace: str, target: Target) -> str:
    """Give the full list of a resource to `target`; return the version that a watch goes on from.

    Raises:
        ClusterError: it cannot be read.
    """
    uids: set[str] = set()
    version = ""
    async with aclosing(api.pages(resource, namespace)) as pages:
        async for objects, found in pages:
            version = found
            for plain in objects:
                _apply(target, resource.kind, "MODIFIED", plain, uids)
            # A page is much to take at once; others are waiting.
            await asyncio.sleep(0)
    target.retain(resource.kind, uids, namespace)
    return version


def _apply(target: Target, kind: Kind, word: str, plain: Mapping[str, Any], uids: set[str]) -> bool:
    try:
        uids.add(plain["metadata"]["uid"])
        target.apply(kind, word, plain)
    except _UNREADABLE as error:
        _LOG.warning("a %s cannot be read: %r", kind.value, error)
        return False
    return True


class Reader:
    """Reads one resource in one namespace, or in all, for as long as it runs.

    Args:
        api: where it is.
        resource: what.
        namespace: where; empty: everywhere.
        target: takes the objects.
        pace: how long to wait for what.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str,
        target: Target,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        self.resource = resource
        self.problem = ""
        """Why it cannot be read now, in one sentence; empty: it can."""
        self.is_absent = False
        """Whether there is no such resource."""
        self.lists = 0
        """Full lists read."""
        self.failures = 0
        """Of requests and lines."""
        self.cuts = 0
        """Watches that broke off and went on from where they were."""
        self.settled = asyncio.Event()
        """Set once the first list is there, or it is known that there is none to be had now."""
        self.heard = clock()
        """When the server last said anything."""
        self._api, self._namespace, self._target = api, namespace, target
        self._pace, self._clock = pace, clock
        self.version = ""
        """Up to which all is read; empty: there is no list yet."""
        self._in_a_row = 0
        """Attempts since a watch was last of use: a list that is answered proves nothing about watches."""
        self._has_spoken = False
        self._opened: float | None = None
        """When the watch was taken."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            wait = await self._attempt()
            if wait:
                await asyncio.sleep(wait)

    async def _attempt(self) -> float:
        """List if need be, watch until that ends; return how long to wait before the next time."""
        try:
            if not self.version:
                self.version = await read_once(self._api, self.resource, self._namespace, self._target)
                self.lists += 1
                self._is_well()
            if await self._watch():
                return 0.0
        except ClusterError as error:
            return self._after(error)
        # Silence for a whole watch: the server may not know the version that we wait for.
        self.version = ""
        if self._was_of_use():
            self._in_a_row = 0
            return 0.0
        return self._later()

    def _after(self, error: ClusterError) -> float:
        """Return how long to wait after `error`."""
        if isinstance(error, ExpiredError):
            # That happens to every long watch now and then; twice in a row it is something else.
            self.version = ""
            self._in_a_row += 1
            return self._pace.wait(self._in_a_row) if self._in_a_row > 1 else 0.0
        if isinstance(error, BrokenError) and self._was_of_use():
            # Load balancers and API servers that restart do that; we go on from where we were.
            self._has_spoken, self._opened, self._in_a_row = False, None, 0
            self.cuts += 1
            return 0.0
        self._fails(error)
        if isinstance(error, AbsentError | ForbiddenError):
            self.version = ""
            self.is_absent = isinstance(error, AbsentError)
            return self._pace.unreadable_seconds
        if isinstance(error, BusyError) and error.wait_seconds is not None:
            return error.wait_seconds + self._pace.wait(1)
        return self._later()

    def _was_of_use(self) -> bool:
        """Return whether the last watch said anything, or was open so long that it could have."""
        return self._has_spoken or (
            self._opened is not None and self._clock() - self._opened >= self._pace.watch_seconds / _USEFUL
        )

    def _later(self) -> float:
        self._in_a_row += 1
        return self._pace.wait(self._in_a_row)

    async def _watch(self) -> bool:
        """Watch from where we are; return whether anything was said."""
        self._has_spoken, self._opened = False, None
        lines = self._api.watch(self.resource, self._namespace, self.version, self._pace.watch_seconds)
        async with aclosing(lines):
            async for word, plain in lines:
                self._is_well()
                if word == OPENED:
                    self._opened = self._clock()
                    continue
                self._has_spoken, self._in_a_row = True, 0
                if word != "BOOKMARK" and not _apply(self._target, self.resource.kind, word, plain, set()):
                    self.failures += 1
                version = (plain.get("metadata") or {}).get("resourceVersion")
                self.version = str(version or self.version)
        return self._has_spoken

    def _is_well(self) -> None:
        self.heard = self._clock()
        self.problem, self.is_absent = "", False
        self.settled.set()

    def _fails(self, error: ClusterError) -> None:
        # That Argo or Flagger is not there is no failure.
        self.failures += not isinstance(error, AbsentError)
        if str(error) != self.problem:
            level = logging.INFO if isinstance(error, AbsentError) else logging.WARNING
            _LOG.log(level, "%s: %s", self.resource.plural, error)
        self.problem = str(error)
        if isinstance(error, AbsentError | ForbiddenError):
            self.settled.set()
