"""Which views count as evidence: those whose token is valid, fresh and was not used for another one.

One document is one exposure. Whatever a page sends with its token, in as many beacons as it likes, counts
once: the view, that it had an error, each vital, each event. Views after the first one (a restore from the
back-forward cache, a soft navigation) are shown, and are no evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from rolloutobs.identity import Track
from rolloutobs.telemetry.view_tokens import Served, TokenDoubt, TokenReader
from rum_collector.model import Beacon, Calls
from rum_collector.seen import SeenTable, key_of
from rum_collector.words import ValueRejection, Vital

__all__ = ["VALID", "Proof", "Proved"]

VALID: Final = "valid"
"""The outcome of tokens that prove something; the others are those of `TokenDoubt`."""
_VIEW: Final = 1
_ERRORS: Final = 2
_RESOURCES: Final = 4
_ABORTED: Final = 8
_VITALS: Final = {vital: 1 << (4 + number) for number, vital in enumerate(Vital)}


class Proved(NamedTuple):
    """A beacon after its token was looked at."""

    beacon: Beacon
    """With app, version and track of the token, where that could be read; without what was counted before."""
    signed: bool
    outcome: str


class Proof:
    """Looks at tokens.

    Args:
        reader: of tokens.
        used: what was counted with each; strict, so that nothing is ever counted twice.
        clock: Unix time in seconds.
    """

    def __init__(self, reader: TokenReader, used: SeenTable, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._used = used
        self._clock = clock

    def judge(self, beacon: Beacon) -> Proved:
        """Return what of `beacon` its token proves."""
        now = self._clock()
        served = self._reader.read(beacon.token, now)
        if not isinstance(served, Served):
            return Proved(_without_marks(beacon), False, served.value)
        if beacon.marks:
            beacon = self._answered(beacon, served)
        beacon = msgspec.structs.replace(
            beacon, app=served.app, version=served.version, track=served.track or beacon.track
        )
        if served.is_stale:
            return Proved(beacon, False, TokenDoubt.STALE.value)
        key = int.from_bytes(served.id, "big") or 1
        if beacon.new_view is not None and not self._used.use(key, _VIEW, served.expires, now):
            return Proved(beacon, False, TokenDoubt.USED.value)
        if not served.track and beacon.track:
            # What the page says of its track is no evidence.
            beacon = msgspec.structs.replace(beacon, track=Track.NONE)
        return Proved(self._once(beacon, key, served.expires, now), True, VALID)

    def _answered(self, beacon: Beacon, served: Served) -> Beacon:
        """Count the marks of answers as those of the page's own version, or of another one."""
        same = sum(self._reader.is_same(mark, served) for mark in beacon.marks)
        known = beacon.calls or Calls(0, 0)
        calls = Calls(known.same + same, known.other + len(beacon.marks) - same)
        return msgspec.structs.replace(beacon, calls=calls, marks=())

    def _once(self, beacon: Beacon, key: int, expires: float, now: float) -> Beacon:
        asked = (
            (_ERRORS if beacon.first_error else 0)
            | (_RESOURCES if beacon.first_resource_error else 0)
            | (_ABORTED if beacon.aborted else 0)
        )
        for vital, _ in beacon.vitals:
            asked |= _VITALS[vital]
        granted = self._used.use(key, asked, expires, now) if asked else 0
        events = tuple(
            [
                event
                for event in beacon.events
                if self._used.use(key_of(key, event.name, event.ok), 1, expires, now)
            ]
        )
        repeated = (asked & ~granted).bit_count() + len(beacon.events) - len(events)
        if not repeated:
            return beacon
        return msgspec.structs.replace(
            beacon,
            first_error=beacon.first_error and bool(granted & _ERRORS),
            first_resource_error=beacon.first_resource_error and bool(granted & _RESOURCES),
            aborted=beacon.aborted and bool(granted & _ABORTED),
            vitals=tuple([pair for pair in beacon.vitals if granted & _VITALS[pair[0]]]),
            events=events,
            rejected=(*beacon.rejected, *[ValueRejection.REPEATED] * repeated),
        )


def _without_marks(beacon: Beacon) -> Beacon:
    """Leave out marks of answers where nothing says whose page it is."""
    if not beacon.marks:
        return beacon
    rejected = (*beacon.rejected, *[ValueRejection.UNPROVED] * len(beacon.marks))
    return msgspec.structs.replace(beacon, marks=(), rejected=rejected)
