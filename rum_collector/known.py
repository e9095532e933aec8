"""Which versions are out: what is not among them counts as ``other``; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from rolloutobs import semconv
from rolloutobs.identity import Track
from rolloutobs.telemetry.view_tokens import VIEW_SECONDS

__all__ = ["KnownVersions", "Out", "versions_in"]

Out = tuple[str, str, Track]
"""App (empty: every app), version and track (none: not known)."""

_TELLING: Final = (semconv.APP_BUILD_INFO, semconv.PODS)
"""Of the SDK: what a process is. Of ``rolloutobs watch``: what the pods of a cluster are."""
_SAMPLE: Final = re.compile(rf"^(?:{'|'.join(_TELLING)})\{{(.*)\}} (\S+)", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class KnownVersions:
    """The versions that are out, by app. Until one is named, every version is admitted.

    A version that nobody tells of any more stays known for as long as its pages may be open: one address may
    be that of many processes, of which another one answers each time, and a page outlives the pod it is from.

    Args:
        configured: they are always known.
    """

    def __init__(self, configured: Iterable[Out] = ()) -> None:
        self.on_change: Callable[[], None] | None = None
        """Told when answers may be others than before."""
        self._configured = frozenset(configured)
        self._found: dict[str, frozenset[Out]] = {}
        self._seen: dict[Out, float] = {}
        self._merge(0.0)

    def found(self, where: str, out: Iterable[Out], now: float = 0.0) -> None:
        """Take over what the process, or the watcher, at `where` says, in the place of what it said before.

        Args:
            where: its address.
            out: what it says.
            now: seconds on any clock that does not go back.
        """
        self._found[where] = frozenset(out)
        self._merge(now)
        if self.on_change is not None:
            self.on_change()

    def _merge(self, now: float) -> None:
        current = self._configured.union(*self._found.values())
        for out in current:
            self._seen[out] = now
        for out in [out for out, last in self._seen.items() if now - last > VIEW_SECONDS]:
            if out not in self._configured:
                del self._seen[out]
        self._tracks = _tracks(current)
        self._earlier = _tracks(self._seen)

    def admits(self, app: str, version: str) -> bool:
        """Return whether `version` may have series of its own."""
        if not self._seen:
            # A collector that starts before the pods are listed must not throw the first minutes together.
            return True
        return (app, version) in self._earlier or ("", version) in self._earlier

    def track(self, app: str, version: str) -> Track:
        """Return the track that `version` is on, or was on last, where it is one only."""
        named = set[Track]()
        for tracks in (self._tracks, self._earlier):
            named = named or tracks.get((app, version)) or tracks.get(("", version)) or set()
        return next(iter(named)) if len(named) == 1 else Track.NONE


def _tracks(out: Iterable[Out]) -> dict[tuple[str, str], set[Track]]:
    found: dict[tuple[str, str], set[Track]] = {}
    for app, version, track in out:
        found.setdefault((app, version), set()).update({track} if track else ())
    return found


def versions_in(exposition: str) -> list[Out]:
    """Return the versions that a ``/metrics`` tells: of the SDK (``app_build_info``), or of the watcher
    (``rolloutobs_pods``)."""
    found = []
    for text, value in _SAMPLE.findall(exposition):
        labels = dict(_LABEL.findall(text))
        track = labels.get(semconv.LABEL_TRACK, "")
        known = Track(track) if track in set(Track) else Track.NONE
        version = labels.get(semconv.LABEL_VERSION, "")
        if version and value not in ("0", "0.0"):
            found.append((labels.get(semconv.LABEL_APP, ""), version, known))
    return found
