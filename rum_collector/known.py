"""Which versions are out: what is not among them counts as ``other``; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from rolloutobs import semconv
from rolloutobs.identity import Track

__all__ = ["KnownVersions", "Out", "versions_in"]

Out = tuple[str, str, Track]
"""App (empty: every app), version and track (none: not known)."""

_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class KnownVersions:
    """The versions that are out, by app.

    Args:
        configured: they are always known.
        asks: whether processes are asked too: until the first one has answered, every version is admitted.
    """

    def __init__(self, configured: Iterable[Out] = (), *, asks: bool = False) -> None:
        self._configured = frozenset(configured)
        self._found: dict[str, frozenset[Out]] = {}
        self._asks = asks
        self._merge()

    def found(self, where: str, out: Iterable[Out]) -> None:
        """Take over what the process at `where` says; what it said before is forgotten."""
        self._found[where] = frozenset(out)
        self._merge()

    def _merge(self) -> None:
        self._tracks: dict[tuple[str, str], set[Track]] = {}
        for app, version, track in self._configured.union(*self._found.values()):
            self._tracks.setdefault((app, version), set()).add(track)
        # Before anybody has answered, every version would be unknown: a collector that starts first must not
        # throw the first minutes together.
        self._is_closed = bool(self._configured) or (self._asks and bool(self._found))

    def admits(self, app: str, version: str) -> bool:
        """Return whether `version` may have series of its own."""
        if not self._is_closed:
            return True
        return (app, version) in self._tracks or ("", version) in self._tracks

    def track(self, app: str, version: str) -> Track:
        """Return the track that `version` is on, where it is on one only."""
        tracks = self._tracks.get((app, version)) or self._tracks.get(("", version)) or set()
        named = {track for track in tracks if track}
        return next(iter(named)) if len(named) == 1 else Track.NONE


def versions_in(exposition: str) -> list[Out]:
    """Return the versions that a ``/metrics`` of the SDK tells, by its ``app_build_info``."""
    found = []
    for line in exposition.splitlines():
        if line.startswith(semconv.APP_BUILD_INFO + "{"):
            labels = dict(_LABEL.findall(line))
            track = labels.get(semconv.LABEL_TRACK, "")
            known = Track(track) if track in set(Track) else Track.NONE
            version = labels.get(semconv.LABEL_VERSION, "")
            if version:
                found.append((labels.get(semconv.LABEL_APP, ""), version, known))
    return found
