"""How synthetic traffic is marked: W3C baggage and a trace of its own on every request to the target.

Belongs here: pure header arithmetic. Putting the headers on the wire is `synthetic.browser` and
`synthetic.load`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rolloutobs.semconv import BAGGAGE_SIGNATURE, BAGGAGE_SYNTHETIC, BAGGAGE_SYNTHETIC_TEST
from rolloutobs.telemetry.signing import sign_synthetic

__all__ = ["SYNTHETIC_BAGGAGE", "Marking", "marked_headers", "new_trace_id", "traceparent"]

SYNTHETIC_BAGGAGE = f"{BAGGAGE_SYNTHETIC}={BAGGAGE_SYNTHETIC_TEST}"
_OURS = frozenset({BAGGAGE_SYNTHETIC, BAGGAGE_SIGNATURE})


def _hex_id(size_bytes: int) -> str:
    """Return a random id that is not all zeros, which W3C Trace Context forbids (sections 3.2.2.3 and
    3.2.2.4)."""
    while True:
        found = secrets.token_hex(size_bytes)
        if found.strip("0"):
            return found


def new_trace_id() -> str:
    """Return 32 hex digits: the trace of one run, under which every server span of the run is found."""
    return _hex_id(16)


def traceparent(trace_id: str) -> str:
    """Return a ``traceparent`` with a fresh parent id and the sampled flag set, so that the run's spans are
    kept.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    return f"00-{trace_id}-{_hex_id(8)}-01"


@dataclass(frozen=True, slots=True)
class Marking:
    """How requests are marked: signed with the first of `secret`, as the mark stands without one."""

    secret: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time
    """Unix time in seconds."""

    def baggage(self) -> str:
        """Return the baggage of one request.

        Apps that have a secret believe the mark with a signature only, and for a few minutes: it is made for
        each request.
        """
        return sign_synthetic(self.secret[0], self.clock()) if self.secret else SYNTHETIC_BAGGAGE


def marked_headers(
    headers: Mapping[str, str], trace_id: str, mark: str = SYNTHETIC_BAGGAGE
) -> dict[str, str]:
    """Return `headers` marked synthetic; baggage that the page set itself stays, its trace gives way to the
    run's.

    Names compare without case; earlier members of the names in `mark` (`Marking.baggage`) are replaced.
    Source: https://www.w3.org/TR/baggage/#baggage-http-header-format
    """
    kept = {name: value for name, value in headers.items() if name.lower() not in ("baggage", "traceparent")}
    given = next((value for name, value in headers.items() if name.lower() == "baggage"), "")
    members = [member.strip() for member in given.split(",")]
    others = [m for m in members if m and m.partition("=")[0].strip() not in _OURS]
    kept["baggage"] = ",".join([*others, mark])
    kept["traceparent"] = traceparent(trace_id)
    return kept
