"""The trace on its way back to whoever asked: OpenTelemetry's response propagator, where a team has set
one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Setter
from opentelemetry.trace import Span, set_span_in_context

__all__ = ["responded", "response_propagator"]

Headers = list[tuple[str, str]]


class _Added(Setter[Headers]):
    def set(self, carrier: Headers, key: str, value: str) -> None:
        carrier.append((key, value))


_ADDED = _Added()


def response_propagator() -> Any:
    """Return OpenTelemetry's response propagator; ``None`` if nobody has set one."""
    # Not imported for it: who sets one has it imported.
    module = sys.modules.get("opentelemetry.instrumentation.propagators")
    return None if module is None else module.get_global_response_propagator()


def responded(propagator: Any, headers: Sequence[tuple[str, str]], span: Span) -> Headers:
    """Return `headers` with what `propagator` adds for `span`."""
    carrier = list(headers)
    propagator.inject(carrier, context=set_span_in_context(span, Context()), setter=_ADDED)
    return carrier
