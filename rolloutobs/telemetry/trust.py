"""Whom to believe: what the baggage of a request says about its caller, and about being synthetic.

The ``rolloutobs.*`` entries are taken out of the baggage that the app sees: they speak of the caller, and are
written anew at each hop. ``synthetic=test`` stays. Where a secret is set, both count only with a signature
that is right and fresh; else they are dropped and counted, and the rest of the baggage is as it was.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from rolloutobs import semconv
from rolloutobs.identity import Track
from rolloutobs.telemetry.callers import with_caller
from rolloutobs.telemetry.signing import Claim, Doubt, Verifier

if TYPE_CHECKING:
    from rolloutobs.telemetry.hub import Hub

__all__ = [
    "NOTHING",
    "OWN_KEYS",
    "Caller",
    "Inbound",
    "Judged",
    "Mark",
    "Trust",
    "is_synthetic",
    "with_entries",
]

# What `Settings` takes as a service or a version, and so what a caller can be called.
_WORD = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{0,128}")
_TRACKS = frozenset(track.value for track in Track)
OWN_KEYS = frozenset(
    {
        semconv.BAGGAGE_SERVICE,
        semconv.BAGGAGE_VERSION,
        semconv.BAGGAGE_TRACK,
        semconv.BAGGAGE_SIGNATURE,
    }
)
"""Entries of baggage that are about one hop, not about the trace."""

# The key under which the API keeps baggage, learnt from the API; `set_baggage` copies all of it per entry.
(_BAGGAGE_CONTEXT_KEY,) = baggage.set_baggage("key", "value", Context())


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called, as the caller says; what it does not say, or says badly, is the empty string."""

    service: str = ""
    version: str = ""
    track: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the server span."""
        pairs = (
            (semconv.ATTR_CALLER_SERVICE, self.service),
            (semconv.ATTR_CALLER_VERSION, self.version),
            (semconv.ATTR_CALLER_TRACK, self.track),
        )
        return {name: value for name, value in pairs if value}


Mark = bool | tuple[bool, str, str]
"""`Inbound.synthetic`; where the metrics are split by caller, with the caller's service and version."""


class Inbound(NamedTuple):
    """What the headers of one request carry.

    Made for each request: a frozen dataclass takes four times as long.
    """

    parent: SpanContext | None = None
    """The remote parent, valid; ``None``: this request starts a trace."""
    context: Context | None = None
    """Baggage, the caller, and whatever else a configured propagator reads; ``None``: nothing."""
    caller: Caller | None = None
    """``None``: it does not say, or cannot prove what it says."""
    synthetic: bool = False
    """Whether a check or a load test sent it; where a secret is set, whether it has proved that."""
    mark: Mark = False
    """What of this the metrics are split by: worked out with the rest, so that counting looks at one
    value."""


NOTHING = Inbound()


@dataclass(frozen=True, slots=True)
class Judged:
    """What one ``baggage`` header carries; judged again at `expires` (Unix seconds; ``None``: never)."""

    inbound: Inbound
    expires: float | None
    doubt: Doubt | None


class Trust:
    """Decides which callers and marks count: all of them without a secret, else those that are proved.

    Args:
        hub: of the app that is called: its secrets, and where rejections are counted. ``None``: no secret.
        clock: Unix time in seconds.
    """

    def __init__(self, hub: Hub | None = None, clock: Callable[[], float] = time.time) -> None:
        secrets = () if hub is None else hub.settings.secret
        self.clock = clock
        self._splits_by_caller = hub is not None and hub.settings.caller_label
        self._verifier = Verifier(secrets) if secrets else None
        self._rejected = None
        if hub is not None and secrets:
            self._rejected = hub.store.counter(
                semconv.BAGGAGE_REJECTED_TOTAL,
                "Requests whose caller or synthetic mark was not believed, for want of a valid signature.",
                (semconv.LABEL_REASON,),
            )
            for doubt in Doubt:
                self._rejected.cell(doubt.value)

    @property
    def checks(self) -> bool:
        """Whether there is a secret."""
        return self._verifier is not None

    def judge(self, entries: Mapping[str, str], context: Context) -> Judged:
        """Return what `entries` carry; what is left of them for the app is in `context`, which is copied."""
        caller = _caller(entries)
        synthetic = is_synthetic(entries)
        expires, doubt = None, None
        if self._verifier is not None and (caller is not None or synthetic):
            expires, doubt = self._verify(self._verifier, caller or Caller(), synthetic, entries)
            if doubt is not None:
                caller = None
        unproved = synthetic and doubt is not None
        synthetic = synthetic and not unproved
        kept = {
            name: value
            for name, value in entries.items()
            if name not in OWN_KEYS and not (unproved and name == semconv.BAGGAGE_SYNTHETIC)
        }
        context = with_entries(kept, context)
        if caller is not None:
            context = with_caller(caller, context)
        mark: Mark = synthetic
        if self._splits_by_caller and caller is not None:
            mark = synthetic, caller.service, caller.version
        return Judged(Inbound(None, context or None, caller, synthetic, mark), expires, doubt)

    def _verify(
        self, verifier: Verifier, caller: Caller, synthetic: bool, entries: Mapping[str, str]
    ) -> tuple[float | None, Doubt | None]:
        mark = semconv.BAGGAGE_SYNTHETIC_TEST if synthetic else ""
        claim = Claim(caller.service, caller.version, caller.track, mark)
        now = self.clock()
        found = verifier.check(claim, entries.get(semconv.BAGGAGE_SIGNATURE, ""), now)
        if not isinstance(found, Doubt):
            return found, None
        # What comes from a clock ahead of ours will be fresh; the other doubts are for good.
        return now if found is Doubt.STALE else None, found

    def count(self, doubt: Doubt) -> None:
        """Count one request whose baggage was not believed."""
        if self._rejected is not None:
            self._rejected.cell(doubt.value).inc()


def with_entries(entries: Mapping[str, object], context: Context) -> Context:
    """Return `context` with exactly these entries as its baggage."""
    if not entries and _BAGGAGE_CONTEXT_KEY not in context:
        return context
    return Context({**context, _BAGGAGE_CONTEXT_KEY: dict(entries)})


def is_synthetic(entries: Mapping[str, Any]) -> bool:
    """Return whether baggage marks its trace as synthetic."""
    mark = str(entries.get(semconv.BAGGAGE_SYNTHETIC, ""))
    return mark.partition(";")[0].rstrip() == semconv.BAGGAGE_SYNTHETIC_TEST


def _caller(entries: Mapping[str, str]) -> Caller | None:
    track = entries.get(semconv.BAGGAGE_TRACK, "")
    caller = Caller(
        _word(entries.get(semconv.BAGGAGE_SERVICE, "")),
        _word(entries.get(semconv.BAGGAGE_VERSION, "")),
        track if track in _TRACKS else "",
    )
    return caller if caller.service or caller.version or caller.track else None


def _word(text: str) -> str:
    return text if _WORD.fullmatch(text) else ""
