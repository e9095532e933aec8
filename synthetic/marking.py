"""How synthetic traffic is marked: W3C baggage and a trace of its own on every request to the target.

Belongs here: pure header arithmetic. Putting the headers on the wire is `synthetic.browser` and
`synthetic.load`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from rolloutobs.semconv import BAGGAGE_SYNTHETIC, BAGGAGE_SYNTHETIC_TEST

__all__ = ["SYNTHETIC_BAGGAGE", "marked_headers", "new_trace_id", "traceparent"]

SYNTHETIC_BAGGAGE = f"{BAGGAGE_SYNTHETIC}={BAGGAGE_SYNTHETIC_TEST}"


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


def marked_headers(headers: Mapping[str, str], trace_id: str) -> dict[str, str]:
    """Return `headers` marked synthetic; baggage that the page set itself stays, its trace gives way to the
    run's.

    Names compare without case; an earlier ``synthetic`` member is replaced.
    Source: https://www.w3.org/TR/baggage/#baggage-http-header-format
    """
    kept = {name: value for name, value in headers.items() if name.lower() not in ("baggage", "traceparent")}
    given = next((value for name, value in headers.items() if name.lower() == "baggage"), "")
    members = [member.strip() for member in given.split(",")]
    others = [m for m in members if m and m.partition("=")[0].strip() != BAGGAGE_SYNTHETIC]
    kept["baggage"] = ",".join([*others, SYNTHETIC_BAGGAGE])
    kept["traceparent"] = traceparent(trace_id)
    return kept
